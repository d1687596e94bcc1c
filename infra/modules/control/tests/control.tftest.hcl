mock_provider "docker" {}

variables {
  database = { host = "slipway-postgres" }
  files    = { "model.yaml" = "name: churn-model\n", "stack.json" = "{}" }
  image    = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  networks = { control = "n1", database = "n2", images = "n3", objects = "n4", production = "n5", staging = "n6" }
  secrets = {
    api = {
      "slipway-database" = { id = "sssssssssssssssssssssss01", name = "slipway-slipway-database" }
      "tokens"           = { id = "sssssssssssssssssssssss02", name = "slipway-tokens" }
    }
    executor = {
      "mlflow-promoter"  = { id = "sssssssssssssssssssssss03", name = "slipway-mlflow-promoter" }
      "slipway-database" = { id = "sssssssssssssssssssssss01", name = "slipway-slipway-database" }
    }
    tables = {
      "slipway-owner" = { id = "sssssssssssssssssssssss04", name = "slipway-slipway-owner" }
    }
  }
}

run "api_and_executor_are_one_image_and_two_services" {
  assert {
    condition = { for name, process in module.process : name => "${process.service.name} ${join(" ", process.service.task_spec[0].container_spec[0].args)}" } == {
      api = "slipway-api api", executor = "slipway-executor executor"
    }
    error_message = "A process is missing or has another name."
  }

  assert {
    condition = alltrue([
      for process in module.process : process.service.task_spec[0].container_spec[0].image == var.image && process.service.mode[0].replicated[0].replicas == 1
    ])
    error_message = "There is not exactly one of each, from the one image."
  }
}

run "the_executor_alone_gets_the_engines_socket_and_the_environments" {
  assert {
    condition = {
      for name, process in module.process : name => [for mount in process.service.task_spec[0].container_spec[0].mounts : mount.source if mount.type == "bind"]
    } == { api = [], executor = ["/var/run/docker.sock"] }
    error_message = "The API has the socket, or the executor has not."
  }

  assert {
    condition = {
      for name, process in module.process : name => join(" ", process.service.task_spec[0].container_spec[0].groups)
    } == { api = "", executor = "0" }
    error_message = "The group of the socket is given to the wrong process."
  }

  assert {
    condition     = toset([for network in module.process["api"].service.task_spec[0].networks_advanced : network.id]) == toset(["n1", "n2", "n4"])
    error_message = "The API is on another network than control, database and objects."
  }

  assert {
    condition     = toset([for network in module.process["executor"].service.task_spec[0].networks_advanced : network.id]) == toset(values(var.networks))
    error_message = "The executor is not on all of its networks."
  }

  assert {
    condition     = contains(module.process["executor"].service.task_spec[0].placement[0].constraints, "node.role==manager")
    error_message = "The executor may be put on a node whose engine can't change services."
  }

  assert {
    condition = {
      for name, process in module.process : name => toset([for secret in process.service.task_spec[0].container_spec[0].secrets : secret.file_name])
      } == {
      api = toset(["slipway-database", "tokens"]), executor = toset(["mlflow-promoter", "slipway-database"])
    }
    error_message = "A process reads a secret that is not its own."
  }
}

run "the_owner_of_the_tables_makes_them_and_ends" {
  assert {
    condition = alltrue([
      for spec in module.tables.service.task_spec[0].container_spec : spec.args == tolist(["tables"]) && spec.image == var.image
      && [for secret in spec.secrets : secret.file_name] == ["slipway-owner"] && spec.env.PGUSER == "slipway-owner"
      && length([for mount in spec.mounts : mount if mount.type != "tmpfs"]) == 0 && length(spec.configs) == 0
    ])
    error_message = "It does something else, or gets more than the owner's login."
  }

  assert {
    condition     = [for network in module.tables.service.task_spec[0].networks_advanced : network.id] == ["n2"]
    error_message = "It is on another network than the database's."
  }

  assert {
    condition     = module.tables.service.task_spec[0].restart_policy[0].condition == "on-failure"
    error_message = "It would run for ever."
  }
}

run "the_owners_login_for_another_process_is_refused" {
  command = plan

  variables {
    secrets = merge(var.secrets, { executor = merge(var.secrets.executor, var.secrets.tables) })
  }

  expect_failures = [var.secrets]
}

run "the_api_reads_the_home_and_the_executor_writes_it" {
  assert {
    condition = {
      for name, process in module.process : name => [for mount in process.service.task_spec[0].container_spec[0].mounts : "${mount.source} ${mount.read_only}" if mount.target == "/data"]
    } == { api = ["slipway-home true"], executor = ["slipway-home false"] }
    error_message = "The home is not the volume, or the API could write to it."
  }
}

run "a_home_on_the_node_belongs_to_its_user" {
  variables {
    home = { path = "/srv/slipway", uid = 1000, gid = 1000 }
  }

  assert {
    condition     = length(docker_volume.home) == 0 && output.volume == null
    error_message = "There is a volume as well."
  }

  assert {
    condition = alltrue([
      for process in module.process : process.service.task_spec[0].container_spec[0].user == "1000:1000"
      && contains([for mount in process.service.task_spec[0].container_spec[0].mounts : mount.source if mount.type == "bind"], "/srv/slipway")
      && alltrue([for secret in process.service.task_spec[0].container_spec[0].secrets : secret.file_uid == "1000"])
    ])
    error_message = "A process runs as somebody else, or its secrets belong to somebody else."
  }
}

run "a_file_is_named_by_its_content" {
  assert {
    condition     = docker_config.file["model.yaml"].name == "slipway-model-yaml-${substr(sha256("name: churn-model\n"), 0, 12)}"
    error_message = "A changed file would keep its name, and could not be replaced."
  }

  assert {
    condition = alltrue([
      for process in module.process :
      toset([for config in process.service.task_spec[0].container_spec[0].configs : config.file_name]) == toset(["/etc/slipway/model.yaml", "/etc/slipway/stack.json"])
    ])
    error_message = "A process does not see the files."
  }
}

run "their_limits_have_defaults" {
  assert {
    condition = { for name, process in module.process : name => process.service.task_spec[0].resources[0].limits[0] } == {
      api      = { memory_bytes = 512 * 1024 * 1024, nano_cpus = 1000000000 }
      executor = { memory_bytes = 2048 * 1024 * 1024, nano_cpus = 2000000000 }
    }
    error_message = "The limits are not the defaults."
  }
}

run "an_init_ends_what_their_children_leave_behind" {
  assert {
    condition     = alltrue([for process in module.process : process.service.task_spec[0].container_spec[0].init])
    error_message = "Ended children would pile up."
  }
}

run "nothing_is_published" {
  assert {
    condition     = alltrue([for process in module.process : length(process.service.endpoint_spec[0].ports) == 0])
    error_message = "A process publishes a port."
  }
}

run "there_are_never_two_executors" {
  assert {
    condition = { for name, process in module.process : name => process.service.update_config[0].order } == {
      api = "start-first", executor = "stop-first"
    }
    error_message = "An update would run two executors at once, or interrupt the API."
  }
}

run "an_executor_that_no_longer_works_is_replaced" {
  assert {
    condition = alltrue([
      for check in module.process["executor"].service.task_spec[0].container_spec[0].healthcheck :
      check.test[0] == "CMD-SHELL" && strcontains(check.test[1], "find /tmp/executor-lives -newermt '-30 seconds'")
    ])
    error_message = "A frozen executor would count as healthy."
  }
}

run "an_api_that_waits_for_newer_tables_is_not_ended" {
  assert {
    condition = alltrue([
      for check in module.process["api"].service.task_spec[0].container_spec[0].healthcheck : check.start_period == "3m"
    ])
    error_message = "The health check would end the API before the 120 s are over for which it waits."
  }
}

run "stopped_both_stay_as_services" {
  variables {
    running = false
  }

  assert {
    condition     = alltrue([for process in [module.process["api"], module.process["executor"], module.tables] : process.service.mode[0].replicated[0].replicas == 0])
    error_message = "A process still runs."
  }
}

run "a_database_host_with_a_password_is_refused" {
  command = plan

  variables {
    database = { host = "slipway:hunter2@slipway-postgres" }
  }

  expect_failures = [var.database]
}

run "a_relative_socket_is_refused" {
  command = plan

  variables {
    docker_socket = { path = "docker.sock" }
  }

  expect_failures = [var.docker_socket]
}

run "a_password_in_the_settings_is_refused" {
  command = plan

  variables {
    env = { executor = { MLFLOW_TRACKING_PASSWORD = "hunter2" } }
  }

  expect_failures = [var.env]
}

run "a_password_in_the_place_of_its_file_is_refused" {
  command = plan

  variables {
    env = { api = { SLIPWAY_TOKENS_FILE = "hunter2" } }
  }

  expect_failures = [var.env]
}

run "a_file_in_another_directory_is_refused" {
  command = plan

  variables {
    files = { "../passwd" = "x" }
  }

  expect_failures = [var.files]
}

run "a_relative_home_is_refused" {
  command = plan

  variables {
    home = { path = ".slipway" }
  }

  expect_failures = [var.home]
}

run "a_load_network_is_refused" {
  command = plan

  variables {
    networks = merge(var.networks, { load-staging = "n7" })
  }

  expect_failures = [var.networks]
}

run "a_missing_secret_is_refused" {
  command = plan

  variables {
    secrets = merge(var.secrets, { api = {} })
  }

  expect_failures = [var.secrets]
}

run "a_prefix_with_a_capital_is_refused" {
  command = plan

  variables {
    prefix = "Slipway"
  }

  expect_failures = [var.prefix]
}
