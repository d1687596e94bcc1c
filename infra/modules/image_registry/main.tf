locals {
  name = "${var.prefix}-images"
  labels = {
    "slipway.prefix" = var.prefix
    "slipway.role"   = "image_registry"
  }

  # A container publishes on the one address it is told; Swarm publishes on every address of the node, but is alone able
  # to hand out the secrets that TLS and logins need.
  is_service = var.bind_address == "0.0.0.0"

  # With TLS the name and port in an image's name are the same inside and outside, or the certificate would not match.
  inner_port = local.is_service ? var.port : 5000
  env_tls = {
    REGISTRY_AUTH                 = "htpasswd"
    REGISTRY_AUTH_HTPASSWD_PATH   = "/run/secrets/registry-users"
    REGISTRY_AUTH_HTPASSWD_REALM  = "slipway"
    REGISTRY_HTTP_ADDR            = "0.0.0.0:${local.inner_port}"
    REGISTRY_HTTP_DEBUG_ADDR      = "127.0.0.1:${local.inner_port + 1}"
    REGISTRY_HTTP_TLS_CERTIFICATE = "/run/secrets/tls.pem"
    REGISTRY_HTTP_TLS_KEY         = "/run/secrets/tls.pem.key"
    REGISTRY_HTTP_TLS_MINIMUMTLS  = "tls1.2"
  }

  secrets = var.tls == null ? {} : {
    "registry-users" = var.tls.registry_users
    "tls.pem"        = var.tls.certificate
    "tls.pem.key"    = var.tls.key
  }
}

resource "docker_volume" "data" {
  name = local.name

  dynamic "labels" {
    for_each = local.labels
    content {
      label = labels.key
      value = labels.value
    }
  }
}

resource "docker_container" "image_registry" {
  count = var.running && !local.is_service ? 1 : 0

  name                  = local.name
  image                 = var.image
  user                  = "10001:10001"
  read_only             = true
  security_opts         = ["no-new-privileges:true"]
  cpus                  = format("%.1f", var.limits.cpus)
  memory                = var.limits.memory_mb
  memory_swap           = var.limits.memory_mb
  restart               = "unless-stopped"
  destroy_grace_seconds = 20
  wait                  = true
  wait_timeout          = 60
  log_driver            = "json-file"
  log_opts = {
    max-file = "3"
    max-size = "10m"
  }
  tmpfs = {
    "/tmp" = "rw,nosuid,nodev,noexec,size=64m,mode=1777"
  }

  dynamic "labels" {
    for_each = local.labels
    content {
      label = labels.key
      value = labels.value
    }
  }

  capabilities {
    drop = ["ALL"]
  }

  healthcheck {
    test         = ["CMD", "probe", "5000", "/"]
    interval     = "2s"
    timeout      = "5s"
    start_period = "30s"
    retries      = 5
  }

  mounts {
    type   = "volume"
    source = docker_volume.data.name
    target = "/data"
  }

  dynamic "networks_advanced" {
    for_each = var.networks
    content {
      name = networks_advanced.value
    }
  }

  ports {
    internal = local.inner_port
    external = var.port
    ip       = var.bind_address
  }
}

resource "docker_service" "image_registry" {
  count = local.is_service ? 1 : 0

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
      stop_grace_period = "20s"
      env               = local.env_tls

      healthcheck {
        test         = ["CMD", "probe", "${local.inner_port + 1}", "/debug/health"]
        interval     = "2s"
        timeout      = "5s"
        start_period = "30s"
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
        for_each = local.secrets
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

    # The name in the certificate leads here from inside as well.
    dynamic "networks_advanced" {
      for_each = var.networks
      content {
        id      = networks_advanced.value
        aliases = networks_advanced.key == "images" ? [var.hostname] : []
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

  # One volume and one port of the node: the old one goes first.
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

    ports {
      target_port    = local.inner_port
      published_port = var.port
      publish_mode   = "host"
    }
  }

  converge_config {
    delay   = "1s"
    timeout = "3m"
  }
}
