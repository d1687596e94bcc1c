provider "docker" {
  host = var.docker_host
}

locals {
  # What keeps data can run alone.
  serving    = var.running && var.serving
  is_exposed = var.bind_address == "0.0.0.0"
  host       = var.external_url == null ? var.bind_address : regex("^https?://(.+)$", var.external_url)[0]
  base_url   = var.external_url == null ? "http://${var.bind_address}" : var.external_url
  urls       = { for name, port in var.ports : name => "${local.base_url}:${port}" if name != "images" }
  placement  = var.state_node == null ? ["node.role==manager"] : ["node.role==manager", "node.id==${var.state_node}"]

  slots = {
    for name in keys(var.environments) : name => {
      for slot in ["live", "trial", "baseline"] : slot => "${var.prefix}-${name}-${slot}"
    }
  }

  slots_of_models = {
    for model, of in var.models : model => {
      for name in keys(var.environments) : name => {
        for slot in ["live", "trial", "baseline"] : slot => "${var.prefix}-${name}-${of.key}-${slot}"
      }
    }
  }
  # A further model is as large as the default one, but for what it has of its own.
  sizes = {
    for model, of in var.models : model => {
      for name, environment in var.environments : name => {
        for part in ["cpus", "memory_mb", "replicas"] : part => try(coalesce(of.environments[name][part]), environment[part])
      }
    }
  }
  endpoints = merge(flatten([
    for model, of in var.models : [
      for name in keys(var.environments) : { "${name}-${of.key}" = { environment = name, key = of.key, model = model } }
    ]
  ])...)

  own_images  = var.image_registry_external == null
  own_objects = var.object_store_external == null
  objects = {
    endpoint = local.own_objects ? module.object_store[0].endpoint : var.object_store_external.endpoint
    region   = local.own_objects ? "us-east-1" : var.object_store_external.region
  }

  # Who gets to read which secret. A service knows no other.
  readers = {
    api = concat(
      ["mlflow-reader", "slipway-database", "audit-objects-password", "audit-objects-user", "tokens"],
      local.objects_authority,
    )
    database = ["mlflow-database", "postgres", "slipway-database", "slipway-owner", "workflows-database"]
    executor = concat(
      ["mlflow-promoter", "slipway-database", "workflows-database"],
      ["audit-objects-password", "audit-objects-user"], local.logins, local.objects_authority,
    )
    model_registry = concat(
      ["mlflow-admin", "mlflow-database", "mlflow-objects-password", "mlflow-objects-user", "mlflow-session-key"],
      ["mlflow-webhook-key"], local.objects_authority,
    )
    object_store = local.own_objects ? ["minio-root-password", "minio-root-user"] : []
    tables       = ["slipway-owner"]
  }
  # A registry that others reach as well wants a login, in the form and under the name that Docker's clients look for.
  # ca.pem is what its certificate is known by, where not everybody knows who signed it.
  logins = concat(
    local.is_exposed || !local.own_images ? ["config.json"] : [],
    (local.own_images ? local.is_exposed : var.image_registry_external.has_authority) ? ["ca.pem"] : [],
  )
  objects_authority = try(var.object_store_external.has_authority, false) ? ["objects-ca.pem"] : []
  objects_bundle    = one([for name in local.objects_authority : "/run/secrets/${name}"])
  secrets = {
    for reader, names in local.readers : reader => { for name in names : name => var.secrets[name] }
  }

  control_env = merge({
    AWS_ACCESS_KEY_ID_FILE     = "/run/secrets/audit-objects-user"
    AWS_DEFAULT_REGION         = local.objects.region
    AWS_ENDPOINT_URL_S3        = local.objects.endpoint
    AWS_SECRET_ACCESS_KEY_FILE = "/run/secrets/audit-objects-password"
    MLFLOW_TRACKING_URI        = module.model_registry.url
  }, local.objects_bundle == null ? {} : { AWS_CA_BUNDLE = local.objects_bundle })

  # What the executor, and the verbs of the operator's machine, have to know of this installation. Names only, no id: the
  # file it becomes is replaced by making the new one first, and so would be all that it refers to, under one name.
  stack = {
    prefix = var.prefix
    environments = {
      for name, environment in var.environments : name => {
        load_network = "${var.prefix}-load-${name}"
        load_urls    = module.edge.load_urls[name]
        models = {
          for model, of in var.models : model => {
            backend   = module.edge.models[model][name].backend
            load_urls = module.edge.models[model][name].load_urls
            replicas  = local.sizes[model][name].replicas
            slots     = { for slot, service in local.slots_of_models[model][name] : slot => { name = service } }
            url       = "${local.urls[name]}/models/${model}"
          }
        }
        network  = "${var.prefix}-${name}"
        replicas = environment.replicas
        slots    = { for slot, service in local.slots[name] : slot => { name = service } }
        url      = local.urls[name]
      }
    }
    edge = {
      container = module.edge.container
      service   = module.edge.service
    }
    image_registry = {
      authority_file = contains(local.logins, "ca.pem") ? "/run/secrets/ca.pem" : null
      # Between containers of one network; what is published beyond this machine has TLS.
      plain_http = local.own_images && !local.is_exposed
      pull       = local.own_images ? module.image_registry[0].pull : var.image_registry_external.address
      push       = local.own_images ? module.image_registry[0].push : var.image_registry_external.address
    }
    images          = { app = var.images.app, loadtest = var.images.loadtest }
    installation_id = var.installation_id
    object_store = {
      buckets  = var.buckets
      endpoint = local.objects.endpoint
      region   = local.objects.region
      url      = local.own_objects ? local.urls.s3 : coalesce(var.object_store_external.url, local.objects.endpoint)
    }
    services = {
      api            = "${var.prefix}-api"
      database       = "${var.prefix}-postgres"
      executor       = "${var.prefix}-executor"
      model_registry = "${var.prefix}-mlflow"
      object_store   = local.own_objects ? "${var.prefix}-minio" : null
    }
    urls = {
      api    = local.urls.api
      mlflow = local.urls.mlflow
    }
  }
}

module "network" {
  source = "./modules/network"

  encrypted    = var.encrypted_networks
  environments = keys(var.environments)
  external     = { image_registry = !local.own_images, object_store = !local.own_objects }
  prefix       = var.prefix
}

module "database" {
  source = "./modules/database"

  image     = var.images.postgres
  limits    = var.limits.database
  networks  = { database = module.network.networks.database.id }
  placement = local.placement
  prefix    = var.prefix
  running   = var.running
  secrets   = local.secrets.database
}

module "object_store" {
  source = "./modules/object_store"
  count  = local.own_objects ? 1 : 0

  image     = var.images.minio
  limits    = var.limits.object_store
  networks  = { for name in ["objects", "s3"] : name => module.network.networks[name].id }
  placement = local.placement
  prefix    = var.prefix
  running   = var.running
  secrets   = local.secrets.object_store
}

module "model_registry" {
  source = "./modules/model_registry"

  allowed_hosts = distinct(["${local.host}:${var.ports.mlflow}", "localhost:${var.ports.mlflow}"])
  database      = { host = module.database.host }
  image         = var.images.mlflow
  limits        = var.limits.model_registry
  networks      = { for name in ["control", "database", "objects"] : name => module.network.networks[name].id }
  object_store  = merge(local.objects, { authority_file = local.objects_bundle, bucket = var.buckets.artifacts })
  placement     = local.placement
  prefix        = var.prefix
  running       = local.serving
  secrets       = local.secrets.model_registry
  url           = local.urls.mlflow
}

module "image_registry" {
  source = "./modules/image_registry"
  count  = local.own_images ? 1 : 0

  bind_address = var.bind_address
  # Engines trust plain HTTP on loopback by address only, whatever name others see.
  hostname  = local.is_exposed ? local.host : var.bind_address
  image     = var.images.image_registry
  limits    = var.limits.image_registry
  networks  = { for name in ["images", "publish-images"] : name => module.network.networks[name].id }
  placement = local.placement
  port      = var.ports.images
  prefix    = var.prefix
  running   = local.serving
  tls       = var.tls
}

module "environment" {
  source   = "./modules/environment"
  for_each = var.environments

  image      = var.images.app
  limits     = { cpus = each.value.cpus, memory_mb = each.value.memory_mb }
  name       = each.key
  network_id = module.network.networks[each.key].id
  prefix     = var.prefix
  replicas   = each.value.replicas
  running    = local.serving
}

module "model" {
  source   = "./modules/environment"
  for_each = local.endpoints

  image = var.images.app
  limits = {
    cpus      = local.sizes[each.value.model][each.value.environment].cpus
    memory_mb = local.sizes[each.value.model][each.value.environment].memory_mb
  }
  model      = { key = each.value.key, name = each.value.model }
  name       = each.value.environment
  network_id = module.network.networks[each.value.environment].id
  prefix     = var.prefix
  replicas   = local.sizes[each.value.model][each.value.environment].replicas
  running    = local.serving
}

module "edge" {
  source = "./modules/edge"

  bind_address = var.bind_address
  environments = {
    for name, environment in var.environments : name => {
      replicas = environment.replicas
      services = local.slots[name]
    }
  }
  image  = var.images.edge
  limits = var.limits.edge
  model  = var.model
  models = {
    for model, of in var.models : model => {
      environments = {
        for name in keys(var.environments) : name => {
          replicas = local.sizes[model][name].replicas
          services = local.slots_of_models[model][name]
        }
      }
      key    = of.key
      number = of.number
    }
  }
  networks = {
    for name in concat(
      ["control", "publish-edge"], keys(var.environments), [for name in keys(var.environments) : "load-${name}"],
      local.own_objects ? ["s3"] : [],
    ) : name => module.network.networks[name]
  }
  placement = local.placement
  ports     = { for name, port in var.ports : name => port if name != "images" }
  prefix    = var.prefix
  running   = var.running
  tls       = var.tls
  upstreams = {
    api    = "${var.prefix}-api:8080"
    mlflow = "${var.prefix}-mlflow:5000"
    s3     = local.own_objects ? "${var.prefix}-minio:9000" : null
  }
}

module "control" {
  source = "./modules/control"

  database      = { host = module.database.host }
  docker_socket = var.docker_socket
  env = {
    api = merge(local.control_env, {
      MLFLOW_TRACKING_PASSWORD_FILE = "/run/secrets/mlflow-reader"
      MLFLOW_TRACKING_USERNAME      = "reader"
      SLIPWAY_TOKENS_FILE           = "/run/secrets/tokens"
    })
    executor = merge(local.control_env, {
      MLFLOW_TRACKING_PASSWORD_FILE    = "/run/secrets/mlflow-promoter"
      MLFLOW_TRACKING_USERNAME         = "promoter"
      WORKFLOWS_DATABASE_PASSWORD_FILE = "/run/secrets/workflows-database"
    }, length(local.logins) > 0 ? { DOCKER_CONFIG = "/run/secrets" } : {})
  }
  files = {
    "model.yaml" = file(var.model_file)
    "stack.json" = jsonencode(local.stack)
  }
  home   = var.home
  image  = var.images.control
  limits = { api = var.limits.api, executor = var.limits.executor }
  networks = {
    for name in concat(["control", "database", "images", "objects"], keys(var.environments)) :
    name => module.network.networks[name].id
  }
  placement = local.placement
  prefix    = var.prefix
  running   = local.serving
  secrets   = { for reader in ["api", "executor", "tables"] : reader => local.secrets[reader] }
}
