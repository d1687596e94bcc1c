"""Slipway in a notebook: logs a fitted estimator so that it can be served, and registers it as a version.

It needs MLflow and what exports models, nothing of the service or of the installation: `pip install slipway[log]`.
"""

from slipway.versions import LoggedVersion, log_evaluation, log_model

__all__ = ["LoggedVersion", "log_evaluation", "log_model"]
