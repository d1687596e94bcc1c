locals {
  name = "${var.prefix}-postgres"
  labels = {
    "slipway.prefix" = var.prefix
    "slipway.role"   = "database"
  }
}

resource "docker_volume" "data" {
  name = "${var.prefix}-postgres"

  dynamic "labels" {
    for_each = local.labels
    content {
      label = labels.key
      value = labels.value
    }
  }
}

module "server" {
  source = "../service"

  env      = { DATABASES = join(" ", var.databases) }
  health   = { test = ["CMD", "pg_isready", "--quiet", "--host", "127.0.0.1"] }
  image    = var.image
  labels   = local.labels
  limits   = var.limits
  mounts   = { "/data" = { source = docker_volume.data.name } }
  name     = local.name
  networks = var.networks
  # Two servers must never share the volume.
  order     = "stop-first"
  placement = var.placement
  running   = var.running
  secrets   = var.secrets
}

moved {
  from = docker_service.database
  to   = module.server.docker_service.service
}
