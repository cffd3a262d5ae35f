"""From an atlas to a model.

train.py             a whole run, `halsted train`: atlas                  -> a model in a folder
recipe.py            every choice of a run, as one frozen value; the learning rate over time; the save rule
embed_atlas.py       an atlas                                             -> the vectors of its windows
atlas_samples.py     the parts of an atlas                                -> their samples, with vectors
clip_samples.py      annotated clips                                      -> samples over their own spans
samples.py           annotated clips                                      -> labelled windows -> row-aligned arrays

loop.py              samples, recipe                                      -> a trained decoder (the only ``ray.train``)
epoch.py             one epoch: train steps, validation, save rule
batch_loader.py      samples                                              -> one worker's part of each batch
prefetch.py          batches drawn ahead and copied to a GPU while it computes
vector_placement.py  whether the vectors lie on the device or on its host
validator.py         decoder, validation samples                          -> accuracy by task and by tag
train_checkpoint.py  the files that a killed run goes on from
epoch_record.py      what training writes down per epoch
epoch_queue.py       the records' way from the workers to the driver
epoch_display.py     the line that a person sees meanwhile
all_reduce.py        sums over the workers

pretrain.py          how the tiny encoder was made: masked clips, then tags
pretrain_recipe.py   every choice of such a run
pretrain_run.py      its state and its files
pretrain_model.py    its networks, losses and optimizers
clip_loader.py       phantom clips, rendered by processes                 -> batches
patch_init.py        the first weights of the patch projection
"""
