"""How right a model and a map are. No Ray Data, no MLflow.

run_evaluation.py    an atlas, a model or a recipe   -> figures: `halsted evaluate`
evaluation_plan.py   which videos judge, and which baselines are judged beside the model
folds.py             videos                          -> folds; one fold: train, predict
left_out.py          videos, operations              -> folds that leave a specialty out, and their figures
vocabulary.py        predictions, another taxonomy    -> figures in the words of that taxonomy
fold_resources.py    the share of a GPU that a fold needs
dataset.py           videos and their clips          -> samples with vectors, which all folds share
predictions.py       model, test samples             -> predictions, from which all figures are computed
baselines.py         the same of chance, majority, a linear probe and SAIS
sais.py              SAIS, a published method; sais_features.py: the frame features that it reads
llama_answers.py     the same of a Llama that is fine-tuned to write tags as text
migration.py         predictions of one taxonomy     -> how they read in another
published_comparisons.py  the paper's comparisons with SAIS and with a Llama, on an atlas
rarp50.py            the whole evaluation on SAR-RARP50, by the paper's protocol

scoring.py           predictions                     -> figures by tag, task, specialty, procedure, source, video
published.py         predictions, clips              -> the paper's figures 2 and 9, ROC curves
model_comparison.py  predictions of two models       -> their difference, over videos or over folds
map_accuracy.py      a timeline, annotated clips     -> figures of the map
metrics.py           accuracy, spans, ranking, calibration, chance: one pure function per metric, with its source
annotator_agreement.py  two people's spans          -> how far they agree: kappa, boundary error
frame_metrics.py     metrics of other benchmarks by frame: mean average precision, phases
intervals.py         confidence intervals over folds and over videos; tests between two models
umap.py              vectors                         -> places on a plane
json_values.py       figures as JSON values
"""
