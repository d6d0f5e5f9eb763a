"""What is counted and recorded of the requests: metrics, traces, the access log, the session in MLflow."""
