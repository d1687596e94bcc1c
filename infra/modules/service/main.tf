resource "docker_service" "service" {
  name = var.name

  dynamic "labels" {
    for_each = var.labels
    content {
      label = labels.key
      value = labels.value
    }
  }

  task_spec {
    container_spec {
      image             = var.image
      args              = var.args
      env               = var.env
      init              = var.init
      user              = "${var.user.uid}:${var.user.gid}"
      groups            = var.user.groups
      read_only         = true
      cap_drop          = ["ALL"]
      stop_grace_period = var.stop_grace_period

      healthcheck {
        test         = var.health.test
        interval     = var.health.interval
        timeout      = var.health.timeout
        start_period = var.health.start_period
        retries      = 5
      }

      dynamic "mounts" {
        for_each = var.mounts
        content {
          type      = startswith(mounts.value.source, "/") ? "bind" : "volume"
          source    = mounts.value.source
          target    = mounts.key
          read_only = mounts.value.read_only
        }
      }

      dynamic "mounts" {
        for_each = var.tmpfs_mb
        content {
          type   = "tmpfs"
          target = mounts.key
          tmpfs_options {
            size_bytes = mounts.value * 1024 * 1024
          }
        }
      }

      dynamic "configs" {
        for_each = var.configs
        content {
          config_id   = configs.value.id
          config_name = configs.value.name
          file_name   = configs.key
        }
      }

      dynamic "secrets" {
        for_each = var.secrets
        content {
          secret_id   = secrets.value.id
          secret_name = secrets.value.name
          file_name   = secrets.key
          file_uid    = tostring(var.user.uid)
          file_gid    = tostring(var.user.gid)
          file_mode   = parseint("400", 8)
        }
      }
    }

    # By id: a network given by its name would replace the service at every apply.
    dynamic "networks_advanced" {
      for_each = var.networks
      content {
        id      = networks_advanced.value
        aliases = lookup(var.aliases, networks_advanced.key, null)
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
      condition    = var.once ? "on-failure" : "any"
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

  update_config {
    order             = var.order
    parallelism       = 1
    delay             = "0s"
    failure_action    = "pause"
    monitor           = "5s"
    max_failure_ratio = "0.0"
  }

  endpoint_spec {
    mode = "dnsrr"

    dynamic "ports" {
      for_each = var.ports
      content {
        target_port    = ports.value.inner
        published_port = ports.value.outer
        publish_mode   = "host"
      }
    }
  }

  # Without it Terraform would not wait for the service. One that ends by itself would be waited for in vain.
  dynamic "converge_config" {
    for_each = var.once ? [] : [var.converge_timeout]
    content {
      delay   = "1s"
      timeout = converge_config.value
    }
  }
}
