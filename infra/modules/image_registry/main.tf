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
    interval     = "5s"
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

module "service" {
  source = "../service"
  count  = local.is_service ? 1 : 0

  # The name in the certificate leads here from inside as well.
  aliases = { images = [var.hostname] }
  env     = local.env_tls
  health = {
    test         = ["CMD", "probe", "${local.inner_port + 1}", "/debug/health"]
    start_period = "30s"
  }
  image    = var.image
  labels   = local.labels
  limits   = var.limits
  mounts   = { "/data" = { source = docker_volume.data.name } }
  name     = local.name
  networks = var.networks
  # One volume and one port of the node: the old one goes first.
  order             = "stop-first"
  placement         = var.placement
  ports             = { images = { inner = local.inner_port, outer = var.port } }
  running           = var.running
  secrets           = local.secrets
  stop_grace_period = "20s"
}

moved {
  from = docker_service.image_registry[0]
  to   = module.service[0].docker_service.service
}
