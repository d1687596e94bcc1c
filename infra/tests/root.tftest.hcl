mock_provider "docker" {
  mock_data "docker_network" {
    defaults = {
      ipam_config = [{ subnet = "10.0.9.0/24", ip_range = "", gateway = "10.0.9.1", aux_address = {} }]
    }
  }
}

variables {
  images = {
    app            = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
    control        = "sha256:0000000000000000000000000000000000000000000000000000000000000002"
    edge           = "sha256:0000000000000000000000000000000000000000000000000000000000000003"
    image_registry = "sha256:0000000000000000000000000000000000000000000000000000000000000004"
    loadtest       = "sha256:0000000000000000000000000000000000000000000000000000000000000005"
    minio          = "sha256:0000000000000000000000000000000000000000000000000000000000000006"
    mlflow         = "sha256:0000000000000000000000000000000000000000000000000000000000000007"
    postgres       = "registry.example.com/postgres@sha256:0000000000000000000000000000000000000000000000000000000000000008"
  }
  secrets = {
    "minio-root-password"     = { id = "sssssssssssssssssssssss01", name = "slipway-minio-root-password" }
    "minio-root-user"         = { id = "sssssssssssssssssssssss02", name = "slipway-minio-root-user" }
    "mlflow-admin"            = { id = "sssssssssssssssssssssss03", name = "slipway-mlflow-admin" }
    "mlflow-database"         = { id = "sssssssssssssssssssssss04", name = "slipway-mlflow-database" }
    "mlflow-objects-password" = { id = "sssssssssssssssssssssss05", name = "slipway-mlflow-objects-password" }
    "mlflow-objects-user"     = { id = "sssssssssssssssssssssss06", name = "slipway-mlflow-objects-user" }
    "mlflow-promoter"         = { id = "sssssssssssssssssssssss07", name = "slipway-mlflow-promoter" }
    "mlflow-reader"           = { id = "sssssssssssssssssssssss08", name = "slipway-mlflow-reader" }
    "mlflow-session-key"      = { id = "sssssssssssssssssssssss09", name = "slipway-mlflow-session-key" }
    "mlflow-webhook-key"      = { id = "sssssssssssssssssssssss10", name = "slipway-mlflow-webhook-key" }
    "postgres"                = { id = "sssssssssssssssssssssss11", name = "slipway-postgres" }
    "slipway-database"        = { id = "sssssssssssssssssssssss12", name = "slipway-slipway-database" }
    "slipway-owner"           = { id = "sssssssssssssssssssssss16", name = "slipway-slipway-owner" }
    "workflows-database"      = { id = "sssssssssssssssssssssss17", name = "slipway-workflows-database" }
    "audit-objects-password"  = { id = "sssssssssssssssssssssss13", name = "slipway-audit-objects-password" }
    "audit-objects-user"      = { id = "sssssssssssssssssssssss14", name = "slipway-audit-objects-user" }
    "tokens"                  = { id = "sssssssssssssssssssssss15", name = "slipway-tokens" }
  }
}

run "the_stack_says_where_everything_is" {
  assert {
    condition = output.stack.urls == {
      api = "http://127.0.0.1:8080", mlflow = "http://127.0.0.1:5000"
    }
    error_message = "People would look elsewhere."
  }

  assert {
    condition = { for name, environment in output.stack.environments : name => environment.url } == {
      production = "http://127.0.0.1:8001", staging = "http://127.0.0.1:8000"
    }
    error_message = "An environment answers elsewhere."
  }

  assert {
    condition = {
      for name, environment in output.stack.environments : name => { for slot, service in environment.slots : slot => service.name }
      } == {
      production = { baseline = "slipway-production-baseline", live = "slipway-production-live", trial = "slipway-production-trial" }
      staging    = { baseline = "slipway-staging-baseline", live = "slipway-staging-live", trial = "slipway-staging-trial" }
    }
    error_message = "The services of the slots are not named."
  }

  assert {
    condition = alltrue([
      for environment in output.stack.environments :
      contains([for network in module.network.networks : network.name], environment.network)
      && contains([for network in module.network.networks : network.name], environment.load_network)
      && environment.network != environment.load_network
    ])
    error_message = "A network is named that does not exist."
  }

  assert {
    condition = alltrue([
      output.stack.image_registry.authority_file == null, output.stack.image_registry.plain_http,
      output.stack.image_registry.pull == "127.0.0.1:5001", output.stack.image_registry.push == "slipway-images:5000",
    ])
    error_message = "The image registry is not named for both sides."
  }

  assert {
    condition = output.stack.object_store == {
      buckets  = { artifacts = "mlflow", dvc = "dvc", heads = "audit-heads" }
      endpoint = "http://slipway-minio:9000"
      region   = "us-east-1"
      url      = "http://127.0.0.1:9000"
    }
    error_message = "The object store is not described."
  }

  assert {
    condition     = output.stack.edge.container == "slipway-edge" && output.stack.edge.service == null && length(output.edge_config_sha256) == 64
    error_message = "The edge is not named, or the digest of its configuration is missing."
  }

  assert {
    condition     = !strcontains(jsonencode(output.stack), "sssssssss")
    error_message = "The stack names a secret; nobody who reads it needs one."
  }
}

run "another_prefix_and_other_ports_are_another_installation" {
  command = plan

  variables {
    ports  = { api = 18080, images = 15001, mlflow = 15000, production = 18001, s3 = 19000, staging = 18000 }
    prefix = "second"
  }

  assert {
    condition     = module.environment["staging"].slots.live.name == "second-staging-live"
    error_message = "A name does not follow the prefix."
  }
}

run "links_show_the_external_url" {
  variables {
    external_url = "https://ml.example.com"
  }

  assert {
    condition     = output.stack.urls.api == "https://ml.example.com:8080" && output.stack.environments.production.url == "https://ml.example.com:8001"
    error_message = "Links show something else."
  }

  assert {
    condition     = output.stack.image_registry.pull == "127.0.0.1:5001" && output.stack.image_registry.authority_file == null
    error_message = "Engines would ask another name than loopback for images without TLS."
  }
}

run "on_every_address_all_is_behind_tls" {
  variables {
    bind_address = "0.0.0.0"
    external_url = "https://ml.example.com"
    secrets = merge(var.secrets, {
      "ca.pem"      = { id = "sssssssssssssssssssssss20", name = "slipway-ca-pem" }
      "config.json" = { id = "sssssssssssssssssssssss16", name = "slipway-config-json" }
    })
    tls = {
      certificate    = { id = "sssssssssssssssssssssss17", name = "slipway-tls" }
      key            = { id = "sssssssssssssssssssssss18", name = "slipway-tls-key" }
      registry_users = { id = "sssssssssssssssssssssss19", name = "slipway-registry-users" }
    }
  }

  assert {
    condition     = output.stack.edge.container == null && output.stack.edge.service == "slipway-edge"
    error_message = "The edge is not a service."
  }

  assert {
    condition = output.stack.image_registry == {
      authority_file = "/run/secrets/ca.pem", plain_http = false, pull = "ml.example.com:5001", push = "ml.example.com:5001"
    }
    error_message = "The image registry is not reached by the name in the certificate."
  }
}

run "an_own_object_store_and_image_registry_can_be_left_out" {
  variables {
    image_registry_external = { address = "registry.example.com/team" }
    images = {
      app      = var.images.app
      control  = var.images.control
      edge     = var.images.edge
      loadtest = var.images.loadtest
      mlflow   = var.images.mlflow
      postgres = var.images.postgres
    }
    object_store_external = { endpoint = "https://s3.example.com" }
    secrets = merge(var.secrets, {
      "config.json" = { id = "sssssssssssssssssssssss16", name = "slipway-config-json" }
    })
  }

  assert {
    condition     = length(module.object_store) == 0 && length(module.image_registry) == 0
    error_message = "An own one is still there."
  }

  assert {
    condition     = output.stack.object_store.endpoint == "https://s3.example.com" && output.stack.image_registry.push == "registry.example.com/team"
    error_message = "The external ones are not used."
  }

  assert {
    condition     = output.stack.object_store.url == "https://s3.example.com" && output.stack.image_registry.authority_file == null && !output.stack.image_registry.plain_http
    error_message = "They are not known by what everybody knows, or not reached where containers reach them."
  }
}

run "external_ones_may_have_another_address_outside_and_an_authority_of_their_own" {
  variables {
    buckets                 = { artifacts = "team-mlflow", dvc = "team-dvc", heads = "team-heads" }
    image_registry_external = { address = "registry.example.com", has_authority = true }
    object_store_external = {
      endpoint = "https://s3.inside.example.com", has_authority = true, region = "eu-1", url = "https://s3.example.com"
    }
    secrets = merge(var.secrets, {
      "ca.pem"         = { id = "sssssssssssssssssssssss20", name = "slipway-ca-pem" }
      "config.json"    = { id = "sssssssssssssssssssssss16", name = "slipway-config-json" }
      "objects-ca.pem" = { id = "sssssssssssssssssssssss21", name = "slipway-objects-ca-pem" }
    })
  }

  assert {
    condition = output.stack.object_store == {
      buckets  = { artifacts = "team-mlflow", dvc = "team-dvc", heads = "team-heads" }
      endpoint = "https://s3.inside.example.com"
      region   = "eu-1"
      url      = "https://s3.example.com"
    }
    error_message = "The object store is not described."
  }

  assert {
    condition     = output.stack.image_registry.authority_file == "/run/secrets/ca.pem"
    error_message = "The executor would not know the image registry."
  }

  assert {
    condition = alltrue([
      for reader in ["api", "executor", "model_registry"] : contains(keys(local.secrets[reader]), "objects-ca.pem")
    ]) && local.control_env.AWS_CA_BUNDLE == "/run/secrets/objects-ca.pem"
    error_message = "Somebody who asks the object store does not know it."
  }
}

run "an_authority_that_no_secret_holds_is_refused" {
  command = plan

  variables {
    object_store_external = { endpoint = "https://s3.example.com", has_authority = true }
  }

  expect_failures = [var.secrets]
}

run "every_address_without_tls_is_refused" {
  command = plan

  variables {
    bind_address = "0.0.0.0"
  }

  expect_failures = [var.bind_address]
}

run "an_address_of_the_network_is_refused" {
  command = plan

  variables {
    bind_address = "192.168.1.5"
  }

  expect_failures = [var.bind_address]
}

run "tls_on_loopback_is_refused" {
  command = plan

  variables {
    external_url = "https://ml.example.com"
    tls = {
      certificate    = { id = "sssssssssssssssssssssss17", name = "slipway-tls" }
      key            = { id = "sssssssssssssssssssssss18", name = "slipway-tls-key" }
      registry_users = { id = "sssssssssssssssssssssss19", name = "slipway-registry-users" }
    }
  }

  expect_failures = [var.bind_address]
}

run "a_key_in_the_place_of_its_secret_is_refused" {
  command = plan

  variables {
    bind_address = "0.0.0.0"
    external_url = "https://ml.example.com"
    secrets = merge(var.secrets, {
      "ca.pem"      = { id = "sssssssssssssssssssssss20", name = "slipway-ca-pem" }
      "config.json" = { id = "sssssssssssssssssssssss16", name = "slipway-config-json" }
    })
    tls = {
      certificate    = { id = "sssssssssssssssssssssss17", name = "slipway-tls" }
      key            = { id = "-----BEGIN PRIVATE KEY-----", name = "slipway-tls-key" }
      registry_users = { id = "sssssssssssssssssssssss19", name = "slipway-registry-users" }
    }
  }

  expect_failures = [var.tls]
}

run "tls_without_the_name_in_the_certificate_is_refused" {
  command = plan

  variables {
    bind_address = "0.0.0.0"
    secrets = merge(var.secrets, {
      "ca.pem"      = { id = "sssssssssssssssssssssss20", name = "slipway-ca-pem" }
      "config.json" = { id = "sssssssssssssssssssssss16", name = "slipway-config-json" }
    })
    tls = {
      certificate    = { id = "sssssssssssssssssssssss17", name = "slipway-tls" }
      key            = { id = "sssssssssssssssssssssss18", name = "slipway-tls-key" }
      registry_users = { id = "sssssssssssssssssssssss19", name = "slipway-registry-users" }
    }
  }

  expect_failures = [var.external_url]
}

run "an_external_url_with_a_port_is_refused" {
  command = plan

  variables {
    external_url = "http://ml.example.com:8080"
  }

  expect_failures = [var.external_url]
}

run "a_bucket_with_a_capital_is_refused" {
  command = plan

  variables {
    buckets = { dvc = "Data" }
  }

  expect_failures = [var.buckets]
}

run "one_bucket_for_two_is_refused" {
  command = plan

  variables {
    buckets = { dvc = "mlflow" }
  }

  expect_failures = [var.buckets]
}

run "an_engine_without_a_scheme_is_refused" {
  command = plan

  variables {
    docker_host = "/var/run/docker.sock"
  }

  expect_failures = [var.docker_host]
}

run "a_relative_socket_is_refused" {
  command = plan

  variables {
    docker_socket = { path = "docker.sock" }
  }

  expect_failures = [var.docker_socket]
}

run "a_third_environment_is_refused" {
  command = plan

  variables {
    environments = { canary = {}, production = {}, staging = {} }
  }

  expect_failures = [var.environments]
}

run "no_replica_is_refused" {
  command = plan

  variables {
    environments = { production = { replicas = 0 }, staging = {} }
  }

  expect_failures = [var.environments]
}

run "a_relative_home_is_refused" {
  command = plan

  variables {
    home = { path = ".slipway" }
  }

  expect_failures = [var.home]
}

run "root_is_refused" {
  command = plan

  variables {
    home = { uid = 0 }
  }

  expect_failures = [var.home]
}

run "an_image_by_tag_is_refused" {
  command = plan

  variables {
    images = merge(var.images, { app = "slipway/app:latest" })
  }

  expect_failures = [var.images]
}

run "an_image_that_is_needed_and_missing_is_refused" {
  command = plan

  variables {
    images = merge(var.images, { minio = null })
  }

  expect_failures = [var.images]
}

run "a_registry_that_is_needed_and_missing_is_refused" {
  command = plan

  variables {
    images = merge(var.images, { image_registry = null })
  }

  expect_failures = [var.images]
}

run "an_external_registry_with_a_scheme_is_refused" {
  command = plan

  variables {
    image_registry_external = { address = "https://registry.example.com" }
    secrets                 = merge(var.secrets, { "config.json" = { id = "sssssssssssssssssssssss16", name = "slipway-config-json" } })
  }

  expect_failures = [var.image_registry_external]
}

run "an_external_object_store_with_credentials_is_refused" {
  command = plan

  variables {
    object_store_external = { endpoint = "https://key:hunter2@s3.example.com" }
  }

  expect_failures = [var.object_store_external]
}

run "a_model_file_that_is_not_there_is_refused" {
  command = plan

  variables {
    model_file = "no-model.yaml"
  }

  expect_failures = [var.model_file]
}

run "a_port_given_twice_is_refused" {
  command = plan

  variables {
    ports = { images = 5000 }
  }

  expect_failures = [var.ports]
}

run "a_port_beyond_the_last_is_refused" {
  command = plan

  variables {
    ports = { api = 65536 }
  }

  expect_failures = [var.ports]
}

run "a_prefix_with_a_capital_is_refused" {
  command = plan

  variables {
    prefix = "Slipway"
  }

  expect_failures = [var.prefix]
}

run "a_secret_value_in_the_place_of_an_id_is_refused" {
  command = plan

  variables {
    secrets = merge(var.secrets, { postgres = { id = "hunter2", name = "slipway-postgres" } })
  }

  expect_failures = [var.secrets]
}

run "a_missing_secret_is_refused" {
  command = plan

  variables {
    secrets = { for name, secret in var.secrets : name => secret if name != "tokens" }
  }

  expect_failures = [var.secrets]
}

run "a_node_that_is_no_id_is_refused" {
  command = plan

  variables {
    state_node = "my-node"
  }

  expect_failures = [var.state_node]
}

run "the_stack_says_which_installation_it_is" {
  command = plan

  variables {
    installation_id = "0123456789abcdef0123456789abcdef"
  }

  assert {
    condition     = output.stack.installation_id == "0123456789abcdef0123456789abcdef"
    error_message = "Its API could not say whose it is."
  }
}

run "an_installation_id_of_another_form_is_refused" {
  command = plan

  variables {
    installation_id = "ours"
  }

  expect_failures = [var.installation_id]
}

run "a_further_model_has_its_own_services_and_addresses_and_leaves_the_default_ones_alone" {
  command = plan

  variables {
    model = "churn-model"
    models = {
      "Tenure.Model" = { key = "tenure-model-1f3a", number = 2, environments = { production = { memory_mb = 1024, replicas = 3 } } }
    }
  }

  assert {
    condition = {
      for name, environment in output.stack.environments : name => { for slot, service in environment.slots : slot => service.name }
      } == {
      production = { baseline = "slipway-production-baseline", live = "slipway-production-live", trial = "slipway-production-trial" }
      staging    = { baseline = "slipway-staging-baseline", live = "slipway-staging-live", trial = "slipway-staging-trial" }
    }
    error_message = "The default model's services would be replaced."
  }

  assert {
    condition = output.stack.environments.production.models == {
      "Tenure.Model" = {
        backend   = "production.tenure-model-1f3a"
        load_urls = { baseline = "http://slipway-edge:8305", live = "http://slipway-edge:8105", trial = "http://slipway-edge:8205" }
        replicas  = 3
        slots = {
          baseline = { name = "slipway-production-tenure-model-1f3a-baseline" }
          live     = { name = "slipway-production-tenure-model-1f3a-live" }
          trial    = { name = "slipway-production-tenure-model-1f3a-trial" }
        }
        url = "http://127.0.0.1:8001/models/Tenure.Model"
      }
    }
    error_message = "The further model is not where the rest of Slipway looks for it."
  }

  assert {
    condition = toset(flatten([
      for environment in output.stack.environments : [for slot in environment.models["Tenure.Model"].slots : slot.name]
    ])) == toset(flatten([for services in module.model : [for service in services.slots : service.name]]))
    error_message = "Services are named that are not made."
  }

  assert {
    condition     = output.stack.environments.staging.models["Tenure.Model"].replicas == 1 && local.sizes["Tenure.Model"].staging.memory_mb == 512
    error_message = "What is not said of a model is not as for the default one."
  }

  assert {
    condition     = local.sizes["Tenure.Model"].production == { cpus = 1, memory_mb = 1024, replicas = 3 }
    error_message = "What is said of a model is not done."
  }
}

run "further_models_without_a_default_one_are_refused" {
  command = plan

  variables {
    models = { second = { key = "second", number = 1 } }
  }

  expect_failures = [var.model]
}

run "a_default_model_that_is_no_name_is_refused" {
  command = plan

  variables {
    model = "churn model"
  }

  expect_failures = [var.model]
}

run "a_model_that_is_no_name_is_refused" {
  command = plan

  variables {
    model  = "first"
    models = { "a/b" = { key = "second", number = 1 } }
  }

  expect_failures = [var.models]
}

run "a_key_with_a_dot_is_refused" {
  command = plan

  variables {
    model  = "first"
    models = { second = { key = "sec.ond", number = 1 } }
  }

  expect_failures = [var.models]
}

run "a_number_without_a_port_is_refused" {
  command = plan

  variables {
    model  = "first"
    models = { second = { key = "second", number = 50 } }
  }

  expect_failures = [var.models]
}

run "one_key_for_two_models_is_refused" {
  command = plan

  variables {
    model  = "first"
    models = { second = { key = "second", number = 1 }, third = { key = "second", number = 2 } }
  }

  expect_failures = [var.models]
}

run "a_model_in_a_third_environment_is_refused" {
  command = plan

  variables {
    model  = "first"
    models = { second = { key = "second", number = 1, environments = { canary = {} } } }
  }

  expect_failures = [var.models]
}

run "a_model_without_a_replica_is_refused" {
  command = plan

  variables {
    model  = "first"
    models = { second = { key = "second", number = 1, environments = { staging = { replicas = 0 } } } }
  }

  expect_failures = [var.models]
}
