locals {
  labels = {
    "slipway.prefix" = var.prefix
    "slipway.role"   = "control"
  }

  env = {
    PGDATABASE      = "slipway"
    PGHOST          = var.database.host
    PGPASSWORD_FILE = "/run/secrets/slipway-database"
    PGPORT          = tostring(var.database.port)
    PGUSER          = "slipway"
    SLIPWAY_HOME    = "/data"
    SLIPWAY_PROJECT = "/etc/slipway"
    SLIPWAY_STACK   = "/etc/slipway/stack.json"
    TARGET          = "docker"
  }

  home = coalesce(var.home.path, one(docker_volume.home[*].name))

  # The API authenticates and writes commands; the executor alone changes what is served, and gets Docker's socket for it.
  processes = {
    api = {
      env    = var.env.api
      groups = []
      # After an update it waits up to 2 minutes for newer tables, and answers nothing meanwhile.
      health   = { start_period = "3m", test = ["CMD", "probe", "8080", "/health"] }
      mounts   = { "/data" = { source = local.home, read_only = true } }
      networks = ["control", "database", "objects"]
      # Two may read and write commands at once.
      order   = "start-first"
      secrets = var.secrets.api
    }
    executor = {
      env    = var.env.executor
      groups = [tostring(var.docker_socket.gid)]
      # It listens on no port, and touches a file while it works. One that is frozen is ended and replaced for it.
      health   = { test = ["CMD-SHELL", "test -n \"$(find /tmp/executor-lives -newermt '-30 seconds')\""] }
      mounts   = { "/data" = { source = local.home }, "/var/run/docker.sock" = { source = var.docker_socket.path } }
      networks = keys(var.networks)
      # One at a time: the next takes the leader lease when the last has gone.
      order   = "stop-first"
      secrets = var.secrets.executor
    }
  }
}

resource "docker_config" "file" {
  for_each = var.files

  name = "${var.prefix}-${replace(each.key, ".", "-")}-${substr(sha256(each.value), 0, 12)}"
  data = base64encode(each.value)

  labels {
    label = "slipway.prefix"
    value = var.prefix
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "docker_volume" "home" {
  count = var.home.path == null ? 1 : 0

  name = "${var.prefix}-home"

  dynamic "labels" {
    for_each = local.labels
    content {
      label = labels.key
      value = labels.value
    }
  }
}

# It makes the tables as their owner, and ends: no other process has the owner's login. The others wait for the tables.
module "tables" {
  source = "../service"

  args = ["tables"]
  env = {
    PGDATABASE      = local.env.PGDATABASE
    PGHOST          = local.env.PGHOST
    PGPASSWORD_FILE = "/run/secrets/slipway-owner"
    PGPORT          = local.env.PGPORT
    PGUSER          = "slipway-owner"
  }
  health    = { test = ["NONE"] }
  image     = var.image
  labels    = local.labels
  limits    = { cpus = 1, memory_mb = 256 }
  name      = "${var.prefix}-tables"
  networks  = { database = var.networks.database }
  once      = true
  order     = "stop-first"
  placement = var.placement
  running   = var.running
  secrets   = var.secrets.tables
}

module "process" {
  source   = "../service"
  for_each = local.processes

  args      = [each.key]
  configs   = { for name, config in docker_config.file : "/etc/slipway/${name}" => { id = config.id, name = config.name } }
  env       = merge(local.env, each.value.env)
  health    = each.value.health
  image     = var.image
  init      = true
  labels    = local.labels
  limits    = var.limits[each.key]
  mounts    = each.value.mounts
  name      = "${var.prefix}-${each.key}"
  networks  = { for name in each.value.networks : name => var.networks[name] }
  order     = each.value.order
  placement = var.placement
  running   = var.running
  secrets   = each.value.secrets
  tmpfs_mb  = { "/tmp" = 256 }
  user      = { uid = var.home.uid, gid = var.home.gid, groups = each.value.groups }
}

moved {
  from = docker_service.process["api"]
  to   = module.process["api"].docker_service.service
}

moved {
  from = docker_service.process["executor"]
  to   = module.process["executor"].docker_service.service
}
