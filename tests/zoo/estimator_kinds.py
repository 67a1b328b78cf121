"""Fitted estimators of the kinds that people have: what ``export(job, checkpoint)`` gives."""

import lightgbm
import numpy
import pandas
import xgboost
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC


def kinds():
    """Return what ``export`` gives, by kind."""
    random = numpy.random.default_rng(3)
    x = random.normal(size=(60, 4)).astype("float32")
    label = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)
    names = numpy.array(["low", "middle", "high, ü"])[label]
    missing = numpy.where(x > 1.5, numpy.nan, x)
    few = {"n_estimators": 3, "random_state": 0}
    quiet = {**few, "verbose": -1, "min_child_samples": 2}
    table = pandas.DataFrame({"colour": names, "size": x[:, 0], "weight": x[:, 1]})
    numbers = pandas.DataFrame({"body size": x[:, 0], "näme.1": (x[:, 1] * 9).astype("int16"), "flag": x[:, 2] > 0})
    pixels = (abs(x) * 50).astype("uint8")
    texts = [f"ÜBEL, a {name} Größe 日本 don't" for name in names]
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]), (StandardScaler(), ["size", "weight"])
    )
    return {
        "a pipeline with a scaler, classes that are text": (
            make_pipeline(StandardScaler(), LogisticRegression()).fit(x, names),
            x,
        ),
        "a table with columns of text and numbers": (make_pipeline(columns, Ridge()).fit(table, x[:, 2]), table),
        "a forest that regresses, of 64 bits": (
            RandomForestRegressor(**few).fit(x.astype("float64"), x[:, 0]),
            x.astype("float64"),
        ),
        "histogram gradient boosting with missing values": (
            HistGradientBoostingClassifier(max_iter=3).fit(missing, label),
            missing,
        ),
        "distances to a boundary": (LinearSVC().fit(x, label > 0), x),
        "clusters": (KMeans(3, n_init=1, random_state=0).fit(x), x),
        "outliers": (IsolationForest(**few).fit(x), x),
        "LightGBM, classes that are text": (lightgbm.LGBMClassifier(**quiet).fit(x, names), x),
        "LightGBM behind a scaler": (
            make_pipeline(StandardScaler(), lightgbm.LGBMRegressor(**quiet)).fit(x, x[:, 0]),
            x,
        ),
        "a booster of LightGBM": (
            lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(x, label > 0), 3),
            x,
        ),
        "XGBoost with missing values": (xgboost.XGBClassifier(**few).fit(missing, label), missing),
        "XGBoost that regresses": (xgboost.XGBRegressor(**few).fit(x, x[:, 0]), x),
        "a booster of XGBoost": (
            xgboost.train({"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(x, label), 3),
            x,
        ),
        "texts with words of any language": (
            make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()).fit(texts, names),
            texts,
        ),
        "a table of numbers whose names have spaces, classes 0.0 and 1.0": (
            RandomForestClassifier(**few).fit(numbers, (label > 0).astype(float)),
            numbers,
        ),
        "XGBoost that was fitted on a table": (xgboost.XGBClassifier(**few).fit(numbers, label), numbers),
        "pixels of 8 bits": (LogisticRegression().fit(pixels, label), pixels),
        "text with a missing value": (Ridge(), table.replace("low", None)),
        "a sparse matrix": (Ridge().fit(x, label), csr_matrix(x)),
        "a booster of LightGBM on a table": (
            lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(numbers, label > 0), 3),
            numbers,
        ),
        "not fitted": (Ridge(), x),
        "a function of one's own": (make_pipeline(FunctionTransformer(numpy.cbrt), Ridge()).fit(x, x[:, 0]), x),
        "columns that are missing": (Ridge().fit(x, x[:, 0]), x[:, :2]),
    }
