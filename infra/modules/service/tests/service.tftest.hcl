mock_provider "docker" {}

variables {
  health    = { test = ["CMD", "probe", "8080", "/health"] }
  image     = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  labels    = { "slipway.prefix" = "slipway" }
  limits    = { cpus = 0.5, memory_mb = 128 }
  name      = "slipway-any"
  networks  = { one = "n1", two = "n2" }
  order     = "stop-first"
  placement = ["node.role==manager"]
  running   = true
  secrets   = { password = { id = "sssssssssssssssssssssss00", name = "slipway-password" } }
}

run "the_container_is_confined" {
  assert {
    condition = alltrue([
      for spec in docker_service.service.task_spec[0].container_spec :
      spec.user == "10001:10001" && spec.read_only && spec.cap_drop == tolist(["ALL"]) && spec.cap_add == null
    ])
    error_message = "It is root, or may write its root file system, or has a capability."
  }

  assert {
    condition = [
      for mount in docker_service.service.task_spec[0].container_spec[0].mounts :
      "${mount.type} ${mount.target} ${mount.tmpfs_options[0].size_bytes}"
    ] == ["tmpfs /tmp ${64 * 1024 * 1024}"]
    error_message = "It may write elsewhere than to /tmp, or without a limit."
  }

  assert {
    condition = docker_service.service.task_spec[0].resources[0].limits[0] == {
      memory_bytes = 128 * 1024 * 1024
      nano_cpus    = 500000000
    }
    error_message = "Its limits are not those given."
  }

  assert {
    condition = docker_service.service.task_spec[0].log_driver[0] == {
      name    = "json-file"
      options = tomap({ max-file = "3", max-size = "10m" })
    }
    error_message = "Its log may fill the disk."
  }
}

run "secrets_are_files_for_its_user_only" {
  assert {
    condition = [
      for secret in docker_service.service.task_spec[0].container_spec[0].secrets :
      "${secret.file_name} ${secret.file_uid} ${secret.file_gid} ${format("%o", secret.file_mode)}"
    ] == ["password 10001 10001 400"]
    error_message = "A secret is missing, or others can read it."
  }
}

run "another_user_gets_the_secrets_as_well" {
  variables {
    user = { uid = 1000, gid = 1001, groups = ["998"] }
  }

  assert {
    condition = alltrue([
      for spec in docker_service.service.task_spec[0].container_spec :
      spec.user == "1000:1001" && spec.groups == tolist(["998"])
      && [for secret in spec.secrets : "${secret.file_uid} ${secret.file_gid} ${format("%o", secret.file_mode)}"] == ["1000 1001 400"]
    ])
    error_message = "It runs as somebody else, or its secrets belong to somebody else."
  }
}

run "nothing_is_published_and_names_lead_to_replicas" {
  assert {
    condition     = docker_service.service.endpoint_spec[0].mode == "dnsrr" && length(docker_service.service.endpoint_spec[0].ports) == 0
    error_message = "It publishes a port or has a virtual address."
  }
}

run "what_is_published_goes_past_the_routing_mesh" {
  variables {
    ports = { any = { inner = 8080, outer = 80 } }
  }

  assert {
    condition = docker_service.service.endpoint_spec[0].mode == "dnsrr" && [
      for port in docker_service.service.endpoint_spec[0].ports : "${port.publish_mode} ${port.published_port} ${port.target_port}"
    ] == ["host 80 8080"]
    error_message = "It publishes another port, or through the routing mesh."
  }
}

run "an_update_waits_for_health_and_stops_at_a_failure" {
  assert {
    condition = docker_service.service.update_config[0] == {
      delay = "0s", failure_action = "pause", max_failure_ratio = "0.0", monitor = "5s", order = "stop-first", parallelism = 1
    }
    error_message = "An update does not go one by one, or goes on after a failure."
  }

  assert {
    condition     = length(docker_service.service.converge_config) == 1
    error_message = "Terraform would not wait for the service."
  }

  assert {
    condition = docker_service.service.task_spec[0].container_spec[0].healthcheck[0] == {
      interval = "5s", retries = 5, start_period = "1m", test = tolist(["CMD", "probe", "8080", "/health"]), timeout = "5s"
    }
    error_message = "Its health is not asked in the usual way."
  }
}

run "it_is_started_again_whenever_it_ends" {
  assert {
    condition = docker_service.service.task_spec[0].restart_policy[0] == {
      condition = "any", delay = "1s", max_attempts = 0, window = "0s"
    }
    error_message = "It would stay away after some failures, or be changed by every plan."
  }
}

run "what_ends_by_itself_is_started_again_only_after_a_failure_and_waited_for_by_nobody" {
  variables {
    health = { test = ["NONE"] }
    once   = true
  }

  assert {
    condition     = docker_service.service.task_spec[0].restart_policy[0].condition == "on-failure"
    error_message = "It would run for ever."
  }

  assert {
    condition     = length(docker_service.service.converge_config) == 0
    error_message = "Terraform would wait for it in vain."
  }

  assert {
    condition     = docker_service.service.task_spec[0].container_spec[0].healthcheck[0].test == tolist(["NONE"])
    error_message = "The image's own health check would end it."
  }
}

run "what_runs_on_has_a_health_check" {
  command = plan

  variables {
    health = { test = ["NONE"] }
  }

  expect_failures = [var.health]
}

run "a_path_is_a_directory_of_the_node_and_a_name_a_volume" {
  variables {
    mounts = {
      "/data" = { source = "slipway-data" }
      "/etc"  = { source = "/srv/etc", read_only = true }
    }
  }

  assert {
    condition = toset([
      for mount in docker_service.service.task_spec[0].container_spec[0].mounts :
      "${mount.type} ${mount.source} ${mount.target} ${mount.read_only}" if mount.type != "tmpfs"
    ]) == toset(["volume slipway-data /data false", "bind /srv/etc /etc true"])
    error_message = "A mount is of another kind, elsewhere, or could be written to."
  }
}

run "networks_are_joined_by_id" {
  variables {
    aliases = { two = ["ml.example.com"] }
  }

  assert {
    condition = alltrue([
      toset([for network in docker_service.service.task_spec[0].networks_advanced : network.id]) == toset(["n1", "n2"]),
      alltrue([for network in docker_service.service.task_spec[0].networks_advanced : network.name == null]),
    ])
    error_message = "It is on other networks; or one is given by its name, and every apply would replace the service."
  }

  assert {
    condition = [
      for network in docker_service.service.task_spec[0].networks_advanced : "${network.id} ${join(" ", network.aliases)}" if network.aliases != null
    ] == ["n2 ml.example.com"]
    error_message = "It has other names than those given."
  }
}

run "a_config_is_seen_at_its_path" {
  variables {
    configs = { "/etc/any.json" = { id = "c1", name = "slipway-any-json" } }
  }

  assert {
    condition = [
      for config in docker_service.service.task_spec[0].container_spec[0].configs : "${config.config_id} ${config.file_name}"
    ] == ["c1 /etc/any.json"]
    error_message = "A config is missing, or elsewhere."
  }
}

run "stopped_it_stays_without_a_container" {
  variables {
    running = false
  }

  assert {
    condition     = docker_service.service.mode[0].replicated[0].replicas == 0
    error_message = "It still runs."
  }
}

run "an_alias_on_a_network_it_is_not_on_is_refused" {
  command = plan

  variables {
    aliases = { three = ["ml.example.com"] }
  }

  expect_failures = [var.aliases]
}

run "no_health_check_is_refused" {
  command = plan

  variables {
    health = { test = ["NONE"] }
  }

  expect_failures = [var.health]
}

run "an_image_by_tag_is_refused" {
  command = plan

  variables {
    image = "slipway/app:latest"
  }

  expect_failures = [var.image]
}

run "an_image_with_half_a_digest_is_refused" {
  command = plan

  variables {
    image = "sha256:0123"
  }

  expect_failures = [var.image]
}

run "too_little_cpu_is_refused" {
  command = plan

  variables {
    limits = { cpus = 0.05, memory_mb = 128 }
  }

  expect_failures = [var.limits]
}

run "too_little_memory_is_refused" {
  command = plan

  variables {
    limits = { cpus = 1, memory_mb = 32 }
  }

  expect_failures = [var.limits]
}

run "half_a_megabyte_is_refused" {
  command = plan

  variables {
    limits = { cpus = 1, memory_mb = 512.5 }
  }

  expect_failures = [var.limits]
}

run "an_update_in_any_order_is_refused" {
  command = plan

  variables {
    order = "any"
  }

  expect_failures = [var.order]
}

run "a_placement_that_is_no_constraint_is_refused" {
  command = plan

  variables {
    placement = ["somewhere"]
  }

  expect_failures = [var.placement]
}

run "no_placement_is_refused" {
  command = plan

  variables {
    placement = []
  }

  expect_failures = [var.placement]
}

run "a_secret_value_in_the_place_of_an_id_is_refused" {
  command = plan

  variables {
    secrets = { password = { id = "hunter2", name = "x" } }
  }

  expect_failures = [var.secrets]
}

run "root_is_refused" {
  command = plan

  variables {
    user = { uid = 0 }
  }

  expect_failures = [var.user]
}

run "the_group_of_root_is_refused" {
  command = plan

  variables {
    user = { gid = 0 }
  }

  expect_failures = [var.user]
}
