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

module "server" {
  source = "../service"

  env = {
    MINIO_ROOT_PASSWORD_FILE = "/run/secrets/minio-root-password"
    MINIO_ROOT_USER_FILE     = "/run/secrets/minio-root-user"
  }
  health   = { test = ["CMD", "probe", "9000", "/minio/health/live"] }
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
  from = docker_service.object_store
  to   = module.server.docker_service.service
}
