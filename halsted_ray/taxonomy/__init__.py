"""What the model can say about surgery: tasks, the tags of each task, the categories of each tag; data in YAML files.

    halsted.yaml      the paper's Table 3: 4 tasks, 11 tags, 104 categories (the default)
    sar_rarp50.yaml   SAR-RARP50's eight actions
    cholec80.yaml     Cholec80's seven phases and seven tools
    bsa.yaml          the ten basic surgical actions
    autolaparo.yaml   AutoLaparo's seven phases
    cholect50.yaml    CholecT50's phases and tools, and its hundred triplets with their parts
    grasp.yaml        GraSP's phases, steps, tools, instruments and atomic actions
    multibypass140.yaml  MultiBypass140's twelve phases and 46 steps
    surglavi.yaml     SurgLaVi-β's three levels of captions
    names.py          Taxonomy, Task, Tag, and the look-ups by name
    parsing.py        reads a YAML file, checks it line by line, and makes it a Taxonomy
    relations.py      how the categories of one taxonomy read in another; the shipped files lie in related/

>>> load().task("macro").instruction
'map procedure type'
"""

from halsted_ray.taxonomy.names import Tag, Task, Taxonomy
from halsted_ray.taxonomy.parsing import from_dict, load

__all__ = ["Tag", "Task", "Taxonomy", "from_dict", "load"]
