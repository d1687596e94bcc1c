locals {
  # Who is on which network stands in the README of the root module. `published` networks are the only ones with a way
  # out of the engine: a port can be published through nothing else.
  published = var.external.image_registry ? ["publish-edge"] : ["publish-edge", "publish-images"]
  inner     = var.external.object_store ? ["control", "database"] : ["control", "database", "s3"]

  # Something outside has to be reached when it takes the place of one of ours.
  outward = {
    images  = var.external.image_registry
    objects = var.external.object_store
  }

  networks = merge(
    { for name in local.published : name => { internal = false } },
    { for name in local.inner : name => { internal = true } },
    { for name, external in local.outward : name => { internal = !external } },
    { for environment in var.environments : environment => { internal = true } },
    { for environment in var.environments : "load-${environment}" => { internal = true } },
  )
}

resource "docker_network" "network" {
  for_each = local.networks

  name       = "${var.prefix}-${each.key}"
  driver     = "overlay"
  attachable = true
  internal   = each.value.internal
  options    = var.encrypted ? { encrypted = "" } : null

  labels {
    label = "slipway.prefix"
    value = var.prefix
  }

  lifecycle {
    # The engine adds some of its own, and a network with others would be another, with everything on it.
    ignore_changes = [options]
  }
}

# The engine picks the subnets. The edge tells its own networks apart by them; without one it could not refuse what comes
# from inside.
data "docker_network" "network" {
  for_each = local.networks

  name = docker_network.network[each.key].name

  lifecycle {
    postcondition {
      condition     = length(self.ipam_config) == 1
      error_message = "The engine gave ${self.name} no subnet, or two; remove the network and apply again."
    }
  }

  depends_on = [docker_network.network]
}
