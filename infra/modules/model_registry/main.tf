locals {
  name = "${var.prefix}-mlflow"
  labels = {
    "slipway.prefix" = var.prefix
    "slipway.role"   = "model_registry"
  }
}

module "server" {
  source = "../service"

  converge_timeout = "5m"
  env = merge({
    AWS_ACCESS_KEY_ID_FILE              = "/run/secrets/mlflow-objects-user"
    AWS_DEFAULT_REGION                  = var.object_store.region
    AWS_SECRET_ACCESS_KEY_FILE          = "/run/secrets/mlflow-objects-password"
    MLFLOW_ARTIFACTS_DESTINATION        = "s3://${var.object_store.bucket}/artifacts"
    MLFLOW_AUTH_ADMIN_PASSWORD_FILE     = "/run/secrets/mlflow-admin"
    MLFLOW_DISABLE_TELEMETRY            = "true"
    MLFLOW_FLASK_SERVER_SECRET_KEY_FILE = "/run/secrets/mlflow-session-key"
    MLFLOW_S3_ENDPOINT_URL              = var.object_store.endpoint
    MLFLOW_SERVER_ALLOWED_HOSTS         = join(",", concat(["${local.name}:5000"], var.allowed_hosts))
    MLFLOW_SERVER_CORS_ALLOWED_ORIGINS  = var.url
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION  = "false"
    # Webhooks go to the API, whose address is a private one; a new one works at once.
    MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS          = "true"
    MLFLOW_WEBHOOK_ALLOWED_SCHEMES            = "http,https"
    MLFLOW_WEBHOOK_CACHE_TTL                  = "1"
    MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY_FILE = "/run/secrets/mlflow-webhook-key"
    PGDATABASE                                = "mlflow"
    PGHOST                                    = var.database.host
    PGPASSWORD_FILE                           = "/run/secrets/mlflow-database"
    PGPORT                                    = tostring(var.database.port)
    PGUSER                                    = "mlflow"
  }, var.object_store.authority_file == null ? {} : { AWS_CA_BUNDLE = var.object_store.authority_file })
  health = {
    test         = ["CMD", "probe", "5000", "/health"]
    timeout      = "10s"
    start_period = "3m"
  }
  image    = var.image
  labels   = local.labels
  limits   = var.limits
  name     = local.name
  networks = var.networks
  # A server that starts may migrate its tables, which no second one should see.
  order     = "stop-first"
  placement = var.placement
  running   = var.running
  secrets   = var.secrets
  # MLflow keeps a file here while it is sent. Two of the largest that Slipway downloads have room: TransferBounds of
  # pipelines/adapters/mlflow/store.py, which counts all files of a model together.
  tmpfs_mb = { "/tmp" = 640 }
}

moved {
  from = docker_service.model_registry
  to   = module.server.docker_service.service
}
