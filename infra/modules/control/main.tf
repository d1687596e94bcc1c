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

  # The API authenticates and writes intents; the executor alone changes what is served, and gets Docker's socket for it.
  processes = {
    api = {
      env      = var.env.api
      groups   = []
      health   = ["CMD", "probe", "8080", "/health"]
      networks = ["control", "database", "objects"]
      # Two may read and write intents at once.
      order   = "start-first"
      secrets = var.secrets.api
      socket  = []
    }
    executor = {
      env    = var.env.executor
      groups = [tostring(var.docker_socket.gid)]
      # It listens on no port, and touches a file while it works. One that is frozen is ended and replaced for it.
      health   = ["CMD-SHELL", "test -n \"$(find /tmp/executor-lives -newermt '-30 seconds')\""]
      networks = keys(var.networks)
      # One at a time: the next takes the seat when the last has gone.
      order   = "stop-first"
      secrets = var.secrets.executor
      socket  = [var.docker_socket.path]
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

resource "docker_service" "process" {
  for_each = local.processes

  name = "${var.prefix}-${each.key}"

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
      args              = [each.key]
      user              = "${var.home.uid}:${var.home.gid}"
      groups            = each.value.groups
      read_only         = true
      cap_drop          = ["ALL"]
      init              = true
      stop_grace_period = "30s"
      env               = merge(local.env, each.value.env)

      healthcheck {
        test         = each.value.health
        interval     = "2s"
        timeout      = "5s"
        start_period = "1m"
        retries      = 5
      }

      mounts {
        type      = var.home.path == null ? "volume" : "bind"
        source    = var.home.path == null ? one(docker_volume.home).name : var.home.path
        target    = "/data"
        read_only = each.key == "api"
      }

      mounts {
        type   = "tmpfs"
        target = "/tmp"
        tmpfs_options {
          size_bytes = 256 * 1024 * 1024
        }
      }

      dynamic "mounts" {
        for_each = each.value.socket
        content {
          type   = "bind"
          source = mounts.value
          target = "/var/run/docker.sock"
        }
      }

      dynamic "configs" {
        for_each = docker_config.file
        content {
          config_id   = configs.value.id
          config_name = configs.value.name
          file_name   = "/etc/slipway/${configs.key}"
        }
      }

      dynamic "secrets" {
        for_each = each.value.secrets
        content {
          secret_id   = secrets.value.id
          secret_name = secrets.value.name
          file_name   = secrets.key
          file_uid    = tostring(var.home.uid)
          file_gid    = tostring(var.home.gid)
          file_mode   = parseint("400", 8)
        }
      }
    }

    dynamic "networks_advanced" {
      for_each = toset(each.value.networks)
      content {
        id = var.networks[networks_advanced.key]
      }
    }

    placement {
      constraints = var.placement
    }

    resources {
      limits {
        memory_bytes = var.limits[each.key].memory_mb * 1024 * 1024
        nano_cpus    = var.limits[each.key].cpus * 1000000000
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

  update_config {
    order             = each.value.order
    parallelism       = 1
    delay             = "0s"
    failure_action    = "pause"
    monitor           = "5s"
    max_failure_ratio = "0.0"
  }

  endpoint_spec {
    mode = "dnsrr"
  }

  converge_config {
    delay   = "1s"
    timeout = "3m"
  }
}
