mock_provider "docker" {}

variables {
  allowed_hosts = ["127.0.0.1:5000", "localhost:5000"]
  database      = { host = "slipway-postgres" }
  image         = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  networks      = { control = "n1", database = "n2", objects = "n3" }
  object_store  = { bucket = "mlflow", endpoint = "http://slipway-minio:9000" }
  secrets = {
    "mlflow-admin"            = { id = "sssssssssssssssssssssss00", name = "slipway-mlflow-admin" }
    "mlflow-database"         = { id = "sssssssssssssssssssssss01", name = "slipway-mlflow-database" }
    "mlflow-objects-password" = { id = "sssssssssssssssssssssss02", name = "slipway-mlflow-objects-password" }
    "mlflow-objects-user"     = { id = "sssssssssssssssssssssss03", name = "slipway-mlflow-objects-user" }
    "mlflow-session-key"      = { id = "sssssssssssssssssssssss04", name = "slipway-mlflow-session-key" }
    "mlflow-webhook-key"      = { id = "sssssssssssssssssssssss05", name = "slipway-mlflow-webhook-key" }
  }
  url = "http://127.0.0.1:5000"
}

run "it_is_one_server_in_three_networks_without_a_volume" {
  assert {
    condition     = module.server.service.name == "slipway-mlflow" && output.url == "http://slipway-mlflow:5000"
    error_message = "Names do not follow the prefix."
  }

  assert {
    condition     = toset([for network in module.server.service.task_spec[0].networks_advanced : network.id]) == toset(["n1", "n2", "n3"])
    error_message = "It is not on exactly control, database and objects."
  }

  assert {
    condition     = [for mount in module.server.service.task_spec[0].container_spec[0].mounts : "${mount.type} ${mount.target}"] == ["tmpfs /tmp"]
    error_message = "It writes elsewhere than to /tmp."
  }
}

run "an_object_store_is_trusted_by_the_authority_that_is_given" {
  variables {
    object_store = { authority_file = "/run/secrets/objects-ca.pem", bucket = "mlflow", endpoint = "https://s3.example.com", region = "eu-1" }
    secrets      = merge(var.secrets, { "objects-ca.pem" = { id = "sssssssssssssssssssssss06", name = "slipway-objects-ca-pem" } })
  }

  assert {
    condition = alltrue([
      module.server.service.task_spec[0].container_spec[0].env.AWS_CA_BUNDLE == "/run/secrets/objects-ca.pem",
      module.server.service.task_spec[0].container_spec[0].env.AWS_DEFAULT_REGION == "eu-1",
    ])
    error_message = "MLflow would not know it, or ask it as another region's."
  }
}

run "its_settings_are_the_measured_ones" {
  assert {
    condition = alltrue([
      for name, value in {
        MLFLOW_ARTIFACTS_DESTINATION       = "s3://mlflow/artifacts"
        MLFLOW_DISABLE_TELEMETRY           = "true"
        MLFLOW_S3_ENDPOINT_URL             = "http://slipway-minio:9000"
        MLFLOW_SERVER_ALLOWED_HOSTS        = "slipway-mlflow:5000,127.0.0.1:5000,localhost:5000"
        MLFLOW_SERVER_CORS_ALLOWED_ORIGINS = "http://127.0.0.1:5000"
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION = "false"
        MLFLOW_WEBHOOK_CACHE_TTL           = "1"
        PGDATABASE                         = "mlflow"
        PGHOST                             = "slipway-postgres"
        PGUSER                             = "mlflow"
      } : module.server.service.task_spec[0].container_spec[0].env[name] == value
    ])
    error_message = "A setting changed."
  }

  assert {
    condition     = module.server.service.task_spec[0].container_spec[0].healthcheck[0].start_period == "3m"
    error_message = "It gets less than three minutes to start; on a busy machine it was ended at one, again and again."
  }
}

run "every_password_and_key_comes_from_a_file" {
  assert {
    condition = alltrue([
      for name, value in module.server.service.task_spec[0].container_spec[0].env :
      startswith(value, "/run/secrets/") if can(regex("(PASSWORD|SECRET|KEY)", name))
    ])
    error_message = "A variable that names a secret holds something else than the path of a file."
  }

  assert {
    condition = toset([
      for name, value in module.server.service.task_spec[0].container_spec[0].env :
      trimprefix(value, "/run/secrets/") if endswith(name, "_FILE")
    ]) == toset(keys(var.secrets))
    error_message = "A secret is mounted and not used, or the other way round."
  }
}

run "its_limits_have_defaults" {
  assert {
    condition = module.server.service.task_spec[0].resources[0].limits[0] == {
      memory_bytes = 1920 * 1024 * 1024
      nano_cpus    = 1000000000
    }
    error_message = "Its limits are not the defaults."
  }
}

run "nothing_is_published" {
  assert {
    condition     = length(module.server.service.endpoint_spec[0].ports) == 0
    error_message = "It publishes a port."
  }
}

run "an_update_stops_the_old_server_first_and_waits_for_the_new_ones_health" {
  assert {
    condition     = module.server.service.update_config[0].order == "stop-first"
    error_message = "A second server would see how the first migrates its tables."
  }

  assert {
    condition     = module.server.service.task_spec[0].container_spec[0].healthcheck[0].test == tolist(["CMD", "probe", "5000", "/health"])
    error_message = "Its health is not asked of the server itself."
  }
}

run "stopped_it_keeps_its_service_without_a_container" {
  variables {
    running = false
  }

  assert {
    condition     = module.server.service.mode[0].replicated[0].replicas == 0
    error_message = "It still runs."
  }
}

run "a_host_without_a_port_is_refused" {
  command = plan

  variables {
    allowed_hosts = ["127.0.0.1"]
  }

  expect_failures = [var.allowed_hosts]
}

run "a_database_host_with_a_password_is_refused" {
  command = plan

  variables {
    database = { host = "mlflow:hunter2@slipway-postgres" }
  }

  expect_failures = [var.database]
}

run "an_endpoint_with_credentials_is_refused" {
  command = plan

  variables {
    object_store = { bucket = "mlflow", endpoint = "http://a:b@slipway-minio:9000" }
  }

  expect_failures = [var.object_store]
}

run "a_bucket_with_a_capital_is_refused" {
  command = plan

  variables {
    object_store = { bucket = "Artifacts", endpoint = "http://slipway-minio:9000" }
  }

  expect_failures = [var.object_store]
}

run "a_url_with_a_path_is_refused" {
  command = plan

  variables {
    url = "http://127.0.0.1:5000/mlflow"
  }

  expect_failures = [var.url]
}

run "an_environments_network_is_refused" {
  command = plan

  variables {
    networks = { control = "n1", database = "n2", objects = "n3", production = "n4" }
  }

  expect_failures = [var.networks]
}

run "a_missing_secret_is_refused" {
  command = plan

  variables {
    secrets = { for name, secret in var.secrets : name => secret if name != "mlflow-admin" }
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
