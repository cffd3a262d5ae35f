"""A hospital's own formats: DICOM video in, reports out and back. Needs ``halsted-ray[dicom]``.

    extra.py              whether the packages are installed
    identities.py         the site's own table: which patient and study a video is of
    intake.py             from DICOM files to plain videos, and to rows of that table
    studies.py            the list of received studies: what is to be mapped, what was refused
    receiving.py          videos by C-STORE, into an archive
    connections.py        bounds of a receiver's connections
    study_mapping.py      maps each complete study in a process of its own
    value_set.py          codes of tags and categories (value_set.yaml)
    subject.py            whom a report is about: by default nobody
    elements.py           DICOM's data elements as bytes
    structured_report.py  a map as a DICOM Structured Report, and back
    fhir.py               a map as a FHIR bundle, and back
    exports.py            these reports as files, one per video

Only ``identities.py`` keeps anything of a DICOM header, beside the UIDs of ``studies.py``, which lie in its file. Every
other file, name, message and log carries ids that say nothing of the patient.
"""
