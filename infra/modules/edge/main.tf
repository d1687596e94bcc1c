locals {
  name = "${var.prefix}-edge"
  labels = {
    "slipway.prefix" = var.prefix
    "slipway.role"   = "edge"
  }

  # A container publishes on the one address it is told; Swarm publishes on every address of the node, but is alone able
  # to hand out the secrets that TLS needs.
  is_service = var.bind_address == "0.0.0.0"

  # Inside of the container. The load ports are published by nobody.
  inner_ports = { staging = 8000, production = 8001, api = 8080, mlflow = 5000, s3 = 9000 }
  slots       = ["live", "trial", "baseline"]
  # A further model has the ports beside those, by its number: none gets others when one comes or goes.
  load_ports = {
    for name in keys(var.environments) : name => {
      for index, slot in local.slots : slot => local.inner_ports[name] + 100 * (index + 1)
    }
  }
  load_ports_of_models = {
    for model, of in var.models : model => {
      for name, ports in local.load_ports : name => { for slot, port in ports : slot => port + 2 * of.number }
    }
  }

  # A dot is in no key, so no backend of a model is called as one of an environment, or as a slot of another model.
  backends = {
    for model, of in var.models : model => { for name in keys(of.environments) : name => "${name}.${of.key}" }
  }

  # Each front end has a share of its own, so that none can take another's; together they are fewer than all. A slot has
  # so many requests a replica under way. Where clients have addresses of their own, none has more than a quarter of a
  # share; on loopback all of them have this machine's. Models divide what their environment has: one that hangs leaves
  # the others theirs. Of load runs there is one at a time, whosever it is. So all is as much as for one model: an engine
  # may not let the edge have more files open.
  connections = {
    all    = 8000
    fronts = { production = 2000, staging = 1000, api = 400, mlflow = 400, s3 = 400 }
    source = local.is_service ? 0.25 : null
    load   = 600
    models = 1 / (1 + length(var.models))
    slots  = { live = 512, trial = 64, baseline = 64 }
  }

  # What stands behind the ports of each environment: the default model, and after all that was there before, the others.
  # What is known of a server is kept by the names of backends and servers, whatever is added.
  endpoints = concat(
    [
      for name, environment in var.environments : {
        backend  = name
        replicas = environment.replicas
        services = environment.services
      }
    ],
    flatten([
      for model, of in var.models : [
        for name, environment in of.environments : {
          backend  = local.backends[model][name]
          replicas = environment.replicas
          services = environment.services
        }
      ]
    ]),
  )

  upstreams = {
    for name, upstream in {
      api    = { address = var.upstreams.api, health = "/health", timeout = "1h" }
      mlflow = { address = var.upstreams.mlflow, health = "/health", timeout = "5m" }
      s3     = { address = var.upstreams.s3, health = "/minio/health/live", timeout = "5m" }
    } : name => merge(upstream, { port = local.inner_ports[name] }) if upstream.address != null
  }

  published = {
    for name in concat(keys(var.environments), keys(local.upstreams)) :
    name => { inner = local.inner_ports[name], outer = var.ports[name] }
  }

  config = templatefile("${path.module}/haproxy.cfg.tftpl", {
    bind_options = local.is_service ? "ssl crt /run/secrets/tls.pem ssl-min-ver TLSv1.2 alpn http/1.1" : "proto h1"
    connections  = local.connections
    endpoints = [
      for endpoint in local.endpoints : merge(endpoint, {
        # During a roll old and new stand side by side; the rest are addresses that DNS has not yet forgotten.
        servers = 2 * endpoint.replicas + 2
      })
    ]
    environments = {
      for name in keys(var.environments) : name => {
        load_ports  = local.load_ports[name]
        load_subnet = var.networks["load-${name}"].subnet
        models = {
          for model, backends in local.backends : model => {
            backend    = backends[name]
            load_ports = local.load_ports_of_models[model][name]
          }
        }
        port = local.inner_ports[name]
      }
    }
    errors = {
      400 = "bad_request", 408 = "request_timeout", 502 = "bad_gateway", 503 = "no_replica", 504 = "gateway_timeout"
    }
    default_model = var.model
    inner_subnets = sort([for name, network in var.networks : network.subnet if !startswith(name, "publish-")])
    scheme        = local.is_service ? "https" : "http"
    threads       = max(1, floor(var.limits.cpus))
    upstreams     = local.upstreams
  })
  config_sha256 = sha256(local.config)
}

resource "docker_volume" "config" {
  name = "${local.name}-config"

  dynamic "labels" {
    for_each = local.labels
    content {
      label = labels.key
      value = labels.value
    }
  }
}

# Never started: it carries the file into the volume, whoever runs meanwhile. Another file is another carrier.
resource "docker_container" "config" {
  name         = "${local.name}-config"
  image        = var.image
  user         = "10001:10001"
  network_mode = "none"
  must_run     = false
  start        = false
  cpus         = "0.1"
  memory       = 64
  memory_swap  = 64
  log_driver   = "none"

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

  mounts {
    type   = "volume"
    source = docker_volume.config.name
    target = "/etc/haproxy"
  }

  upload {
    file        = "/etc/haproxy/haproxy.cfg"
    content     = local.config
    permissions = "0444"
  }
}

resource "docker_container" "edge" {
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
    "/run/haproxy" = "rw,nosuid,nodev,noexec,size=16m,mode=0700,uid=10001,gid=10001"
    "/tmp"         = "rw,nosuid,nodev,noexec,size=16m,mode=1777"
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
    test         = ["CMD", "probe", "8404", "/health"]
    interval     = "5s"
    timeout      = "5s"
    start_period = "30s"
    retries      = 5
  }

  mounts {
    type      = "volume"
    source    = docker_volume.config.name
    target    = "/etc/haproxy"
    read_only = true
  }

  dynamic "networks_advanced" {
    for_each = var.networks
    content {
      name = networks_advanced.value.id
    }
  }

  dynamic "ports" {
    for_each = local.published
    content {
      internal = ports.value.inner
      external = ports.value.outer
      ip       = var.bind_address
    }
  }

  # The volume has to hold a configuration before the first start; a later one is taken over by a reload.
  depends_on = [docker_container.config]
}

module "service" {
  source = "../service"
  count  = local.is_service ? 1 : 0

  health = {
    test         = ["CMD", "probe", "8404", "/health"]
    start_period = "30s"
  }
  image    = var.image
  labels   = local.labels
  limits   = var.limits
  mounts   = { "/etc/haproxy" = { source = docker_volume.config.name, read_only = true } }
  name     = local.name
  networks = { for name, network in var.networks : name => network.id }
  # Both want the same ports of the node.
  order             = "stop-first"
  placement         = var.placement
  ports             = local.published
  running           = var.running
  secrets           = var.tls == null ? {} : { "tls.pem" = var.tls.certificate, "tls.pem.key" = var.tls.key }
  stop_grace_period = "20s"
  tmpfs_mb          = { "/run/haproxy" = 16, "/tmp" = 16 }

  depends_on = [docker_container.config]
}

moved {
  from = docker_service.edge[0]
  to   = module.service[0].docker_service.service
}
