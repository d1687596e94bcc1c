"""gunicorn's settings for a replica: one worker, so that each replica can be asked by its own address."""

workers = 1
worker_class = "app.worker.DrainingWorker"
logger_class = "app.logs.JsonLogger"
# The worker writes its own lifecycle; of gunicorn's only what went wrong matters.
loglevel = "warning"
# More than an edge in front keeps connections, so that the edge closes first.
keepalive = 75
# A worker stuck in native code sends no heartbeat, and is replaced.
timeout = 30
graceful_timeout = 10
# Nobody commands a replica but by signals; the socket would be one more file to clean up.
control_socket_disable = True
