"""Run open-model load against a served model and judge the raw latencies against its SLO."""
