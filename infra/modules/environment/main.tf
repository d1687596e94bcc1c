locals {
  slots = ["live", "trial", "baseline"]
  # The installation's default model has the names and labels that an installation of one model has.
  name = join("-", compact([var.prefix, var.name, one(var.model[*].key)]))
  labels = { for slot in local.slots : slot => merge({
    "slipway.environment" = var.name
    "slipway.prefix"      = var.prefix
    "slipway.role"        = "environment"
    "slipway.slot"        = slot
  }, var.model == null ? {} : { "slipway.model" = var.model.name }) }
}

# These two are not made by the module service: what Terraform ignores of a resource can't be a variable, and here it
# differs from there, and between the two.
resource "docker_service" "live" {
  name = "${local.name}-live"

  dynamic "labels" {
    for_each = local.labels.live
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
      stop_grace_period = "20s"

      env = {
        SLIPWAY_STAGE = title(var.name)
      }

      # A replica answers only once its bundle has proved itself, or when it has none.
      healthcheck {
        test         = ["CMD", "probe", "8000", "/health"]
        interval     = "2s"
        timeout      = "3s"
        start_period = "10s"
        retries      = 3
      }

      mounts {
        type   = "tmpfs"
        target = "/tmp"
        tmpfs_options {
          size_bytes = 64 * 1024 * 1024
        }
      }
    }

    networks_advanced {
      id = var.network_id
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
      replicas = var.running ? var.replicas : 0
    }
  }

  # A new replica is healthy before an old one goes. A failure stops the roll where it is; the executor, which watches it,
  # puts the recorded release back.
  update_config {
    order             = "start-first"
    parallelism       = 1
    delay             = "0s"
    failure_action    = "pause"
    monitor           = "3s"
    max_failure_ratio = "0.0"
  }

  endpoint_spec {
    mode = "dnsrr"
  }

  converge_config {
    delay   = "1s"
    timeout = "3m"
  }

  lifecycle {
    # A release sets the image, says in variables which bundle it holds, and records itself in labels.
    ignore_changes = [labels, task_spec[0].container_spec[0].env, task_spec[0].container_spec[0].image]
  }
}

# At rest they have no replica; a release gives them some for as long as it tries something.
resource "docker_service" "idle" {
  for_each = toset(["trial", "baseline"])

  name = "${local.name}-${each.key}"

  dynamic "labels" {
    for_each = local.labels[each.key]
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
      stop_grace_period = "20s"

      env = {
        SLIPWAY_STAGE = title(var.name)
      }

      healthcheck {
        test         = ["CMD", "probe", "8000", "/health"]
        interval     = "2s"
        timeout      = "3s"
        start_period = "10s"
        retries      = 3
      }

      mounts {
        type   = "tmpfs"
        target = "/tmp"
        tmpfs_options {
          size_bytes = 64 * 1024 * 1024
        }
      }
    }

    networks_advanced {
      id = var.network_id
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
      replicas = 0
    }
  }

  update_config {
    order             = "start-first"
    parallelism       = 1
    delay             = "0s"
    failure_action    = "pause"
    monitor           = "3s"
    max_failure_ratio = "0.0"
  }

  endpoint_spec {
    mode = "dnsrr"
  }

  converge_config {
    delay   = "1s"
    timeout = "3m"
  }

  lifecycle {
    # As above, and the number of replicas.
    ignore_changes = [labels, mode, task_spec[0].container_spec[0].env, task_spec[0].container_spec[0].image]
  }
}
