"""What follows what: the rows of maps, or the clips of an atlas, as sequences of actions. Pure; knows neither Ray nor
the service, and decodes nothing.

    action_sequences.py  a timeline, or an atlas     -> sequences of actions per video
    moments.py           sequences                   -> moments: what is known then, and what came after
    ngram.py             moments                     -> counts of what follows, with back-off
    recurrent.py         moments                     -> a gated recurrent network
    forecaster.py        a trained forecaster as a folder: save, load, forecast
    forecast_folds.py    sequences                   -> figures by horizon, on videos that were held out
    explanation.py       rows at one moment          -> perception, relation, context, each with its rows
    economy.py           rows of one video           -> economy of motion
    economy_regression.py  economy, given scores     -> how far the two go together
"""
