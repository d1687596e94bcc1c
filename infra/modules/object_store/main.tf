locals {
  name = "${var.prefix}-minio"
  labels = {
    "slipway.prefix" = var.prefix
    "slipway.role"   = "object_store"
  }
}

resource "docker_volume" "data" {
  name = "${var.prefix}-minio"

  dynamic "labels" {
    for_each = local.labels
    content {
      label = labels.key
      value = labels.value
    }
  }
}

resource "docker_service" "object_store" {
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

      env = {
        MINIO_ROOT_PASSWORD_FILE = "/run/secrets/minio-root-password"
        MINIO_ROOT_USER_FILE     = "/run/secrets/minio-root-user"
      }

      healthcheck {
        test         = ["CMD", "probe", "9000", "/minio/health/live"]
        interval     = "2s"
        timeout      = "5s"
        start_period = "1m"
        retries      = 5
      }

      mounts {
        type   = "volume"
        source = docker_volume.data.name
        target = "/data"
      }

      mounts {
        type   = "tmpfs"
        target = "/tmp"
        tmpfs_options {
          size_bytes = 64 * 1024 * 1024
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

  # Two servers must never share the volume.
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
    timeout = "3m"
  }
}
