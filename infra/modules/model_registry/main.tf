locals {
  name = "${var.prefix}-mlflow"
  labels = {
    "slipway.prefix" = var.prefix
    "slipway.role"   = "model_registry"
  }
}

resource "docker_service" "model_registry" {
  name = local.name

  dynamic "labels" {
    for_each = local.labels
    content {
      label = labels.key
      value = labels.value
    }
  }

  task_spec {
    container_spec {
      image             = var.image
      user              = "10001:10001"
      read_only         = true
      cap_drop          = ["ALL"]
      stop_grace_period = "30s"

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

      healthcheck {
        test         = ["CMD", "probe", "5000", "/health"]
        interval     = "3s"
        timeout      = "10s"
        start_period = "1m"
        retries      = 5
      }

      mounts {
        type   = "tmpfs"
        target = "/tmp"
        tmpfs_options {
          size_bytes = 256 * 1024 * 1024
        }
      }

      dynamic "secrets" {
        for_each = var.secrets
        content {
          secret_id   = secrets.value.id
          secret_name = secrets.value.name
          file_name   = secrets.key
          file_uid    = "10001"
          file_gid    = "10001"
          file_mode   = parseint("400", 8)
        }
      }
    }

    dynamic "networks_advanced" {
      for_each = var.networks
      content {
        id = networks_advanced.value
      }
    }

    placement {
      constraints = var.placement
    }

    resources {
      limits {
        memory_bytes = var.limits.memory_mb * 1024 * 1024
        nano_cpus    = var.limits.cpus * 1000000000
      }
    }

    restart_policy {
      condition    = "any"
      delay        = "1s"
      max_attempts = 0
      window       = "0s"
    }

    log_driver {
      name = "json-file"
      options = {
        max-file = "3"
        max-size = "10m"
      }
    }
  }

  mode {
    replicated {
      replicas = var.running ? 1 : 0
    }
  }

  # A server that starts may migrate its tables, which no second one should see.
  update_config {
    order             = "stop-first"
    parallelism       = 1
    delay             = "0s"
    failure_action    = "pause"
    monitor           = "5s"
    max_failure_ratio = "0.0"
  }

  endpoint_spec {
    mode = "dnsrr"
  }

  converge_config {
    delay   = "1s"
    timeout = "5m"
  }
}
