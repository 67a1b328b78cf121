"""Fitted estimators of the kinds that people have: what ``export(job, checkpoint)`` gives."""

import lightgbm
import numpy
import pandas
import xgboost
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestRegressor
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
        "not fitted": (Ridge(), x),
        "a function of one's own": (make_pipeline(FunctionTransformer(numpy.cbrt), Ridge()).fit(x, x[:, 0]), x),
        "columns that are missing": (Ridge().fit(x, x[:, 0]), x[:, :2]),
    }
