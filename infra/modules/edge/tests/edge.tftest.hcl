mock_provider "docker" {}

variables {
  environments = {
    production = { replicas = 2, services = { baseline = "slipway-production-baseline", live = "slipway-production-live", trial = "slipway-production-trial" } }
    staging    = { replicas = 1, services = { baseline = "slipway-staging-baseline", live = "slipway-staging-live", trial = "slipway-staging-trial" } }
  }
  image = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  networks = {
    control         = { id = "n1", subnet = "10.0.1.0/24" }
    load-production = { id = "n2", subnet = "10.0.2.0/24" }
    load-staging    = { id = "n3", subnet = "10.0.3.0/24" }
    production      = { id = "n4", subnet = "10.0.4.0/24" }
    publish-edge    = { id = "n5", subnet = "10.0.5.0/24" }
    s3              = { id = "n6", subnet = "10.0.6.0/24" }
    staging         = { id = "n7", subnet = "10.0.7.0/24" }
  }
  upstreams = {
    api    = "slipway-api:8080"
    mlflow = "slipway-mlflow:5000"
    s3     = "slipway-minio:9000"
  }
}

run "on_loopback_it_is_a_container_that_publishes_on_that_address_only" {
  assert {
    condition     = length(docker_container.edge) == 1 && length(module.service) == 0
    error_message = "It is not one plain container."
  }

  assert {
    condition = toset([for port in docker_container.edge[0].ports : "${port.ip}:${port.external} ${port.internal}"]) == toset([
      "127.0.0.1:5000 5000", "127.0.0.1:8000 8000", "127.0.0.1:8001 8001", "127.0.0.1:8080 8080", "127.0.0.1:9000 9000",
    ])
    error_message = "It publishes something else than its five ports on 127.0.0.1."
  }

  assert {
    condition     = output.container == "slipway-edge" && output.service == null
    error_message = "The outputs name something else."
  }

  assert {
    condition     = length(docker_container.edge[0].networks_advanced) == 7
    error_message = "It is not on all of its networks."
  }
}

run "the_container_is_confined" {
  assert {
    condition = alltrue([
      for container in docker_container.edge :
      container.user == "10001:10001" && container.read_only && container.security_opts == toset(["no-new-privileges:true"])
      && one(container.capabilities).drop == toset(["ALL"]) && one(container.capabilities).add == null
    ])
    error_message = "It is root, or may write its root file system, or has a capability, or may gain one."
  }

  assert {
    condition = alltrue([
      for container in docker_container.edge :
      container.cpus == "1.0" && container.memory == 512 && container.memory_swap == 512
    ])
    error_message = "Its limits are not the defaults."
  }

  assert {
    condition = alltrue([
      for container in docker_container.edge :
      container.log_driver == "json-file" && container.log_opts == tomap({ max-file = "3", max-size = "10m" })
    ])
    error_message = "Its log may fill the disk."
  }

  assert {
    condition = alltrue([
      for container in docker_container.edge :
      container.restart == "unless-stopped" && container.wait && length(container.healthcheck[0].test) > 1
    ])
    error_message = "It has no health check, or is not waited for, or not started again."
  }
}

run "its_configuration_is_carried_into_a_volume_by_a_container_that_never_runs" {
  assert {
    condition     = !docker_container.config.start && !docker_container.config.must_run && docker_container.config.network_mode == "none"
    error_message = "The carrier would run."
  }

  assert {
    condition     = one(docker_container.config.upload).file == "/etc/haproxy/haproxy.cfg" && one(docker_container.config.mounts).target == "/etc/haproxy"
    error_message = "The file would not land in the volume."
  }

  assert {
    condition     = output.config_sha256 == sha256(one(docker_container.config.upload).content)
    error_message = "The digest that tells when to reload is not that of the file."
  }

  assert {
    condition = alltrue([
      for mount in docker_container.edge[0].mounts : mount.target == "/etc/haproxy" && mount.source == docker_volume.config.name && mount.read_only
    ])
    error_message = "The edge does not mount the directory, or could write to it."
  }
}

run "another_configuration_leaves_the_running_container_alone" {
  variables {
    environments = {
      production = { replicas = 7, services = { baseline = "slipway-production-baseline", live = "slipway-production-live", trial = "slipway-production-trial" } }
      staging    = { replicas = 1, services = { baseline = "slipway-staging-baseline", live = "slipway-staging-live", trial = "slipway-staging-trial" } }
    }
  }

  assert {
    condition     = strcontains(one(docker_container.config.upload).content, "server-template live 16 tasks.slipway-production-live:8000")
    error_message = "More replicas did not reach the configuration."
  }

  assert {
    condition = alltrue([
      for container in docker_container.edge :
      length(container.upload) == 0 && length(container.env) == 0 && container.name == "slipway-edge"
      && !strcontains(jsonencode(container.labels), substr(output.config_sha256, 0, 12))
    ])
    error_message = "The edge refers to its configuration, so another one would replace it."
  }
}

run "the_configuration_rolls_without_a_lost_request" {
  assert {
    condition = alltrue([
      for line in [
        "nameserver engine 127.0.0.11:53",
        "resolve_retries 3",
        "timeout retry 500ms",
        "hold valid 500ms",
        "hold obsolete 1s",
        "option redispatch 1",
        "retries 3",
        "timeout connect 300ms",
        "http-reuse safe",
        "option idle-close-on-response",
        "server-state-file /run/haproxy/state",
        "load-server-state-from-file global",
        "hard-stop-after 90s",
        "check inter 500ms fastinter 200ms rise 1 fall 2 init-addr last,none observe layer4",
        "http-check send meth GET uri-lf \"/ready%[srv_name,map_beg(virt@production,?)]\"",
        "http-check send meth GET uri-lf \"/health%[srv_name,map_beg(virt@production-alive,?)]\"",
        "timeout http-keep-alive 30s",
        "http-after-response set-header keep-alive timeout=25",
        "retry-on conn-failure empty-response response-timeout",
        "stats socket /run/haproxy/admin.sock mode 600 level admin expose-fd listeners",
        "defaults production-ready from common\n  retries 1\n",
      ] : strcontains(one(docker_container.config.upload).content, line)
    ])
    error_message = "A measured setting is missing."
  }

  assert {
    condition     = !strcontains(one(docker_container.config.upload).content, "shutdown-sessions")
    error_message = "It cuts sessions of a replica that goes, which fails one request a roll."
  }

  assert {
    condition     = strcontains(one(docker_container.config.upload).content, "server-template live 6 tasks.slipway-production-live:8000 weight 100 maxconn 512")
    error_message = "There is no room for twice the replicas and two more."
  }

  assert {
    condition     = strcontains(one(docker_container.config.upload).content, "server-template trial 6 tasks.slipway-production-trial:8000 weight 0")
    error_message = "A trial would get traffic without being asked for."
  }
}

run "a_front_end_refuses_what_comes_from_an_inner_network" {
  assert {
    condition = length(regexall(
      "tcp-request connection reject if { dst 10.0.1.0/24 10.0.2.0/24 10.0.3.0/24 10.0.4.0/24 10.0.6.0/24 10.0.7.0/24 }",
      one(docker_container.config.upload).content,
    )) == 5
    error_message = "One of the five front ends lets a service or a replica in."
  }

  assert {
    condition = alltrue([
      for rule in ["10.0.2.0/24", "10.0.3.0/24"] :
      length(regexall("tcp-request connection reject unless { dst ${rule} }", one(docker_container.config.upload).content)) == 3
    ])
    error_message = "A front end for load runs lets another network in than its environment's."
  }

  assert {
    condition = output.load_urls == {
      production = { baseline = "http://slipway-edge:8301", live = "http://slipway-edge:8101", trial = "http://slipway-edge:8201" }
      staging    = { baseline = "http://slipway-edge:8300", live = "http://slipway-edge:8100", trial = "http://slipway-edge:8200" }
    }
    error_message = "Load runs would look elsewhere."
  }
}

run "no_front_end_and_no_slot_takes_the_share_of_another" {
  assert {
    condition = alltrue([
      for front in [
        "frontend production from front\n  bind :8001 proto h1\n  maxconn 2000",
        "frontend staging from front\n  bind :8000 proto h1\n  maxconn 1000",
        "frontend api from front\n  bind :8080 proto h1\n  maxconn 400",
        "frontend mlflow from front\n  bind :5000 proto h1\n  maxconn 400",
        "frontend s3 from front\n  bind :9000 proto h1\n  maxconn 400",
        "frontend load-production-trial from front\n  bind :8201 proto h1\n  maxconn 600",
      ] : strcontains(one(docker_container.config.upload).content, front)
    ])
    error_message = "A front end has no share of its own."
  }

  assert {
    condition = sum([
      for bound in flatten(regexall("\n  bind [^\n]+\n  maxconn ([0-9]+)", one(docker_container.config.upload).content)) : tonumber(bound)
    ]) < tonumber(one(regex("global[^#]*\n  maxconn ([0-9]+)", one(docker_container.config.upload).content)))
    error_message = "The shares are more than there are connections, so one could take another's."
  }

  assert {
    condition = alltrue([
      for name in ["production", "staging"] : alltrue([
        for slot in ["trial", "baseline"] : length(regexall(
          "tasks.slipway-${name}-${slot}:8000 weight 0 maxconn 64\n", one(docker_container.config.upload).content,
        )) == 1
      ])
    ])
    error_message = "A candidate that hangs would keep more than its small share."
  }
}

run "nobody_reads_sampled_requests_through_it" {
  assert {
    condition = length(regexall(
      "\n  http-request return status 404 [^\n]+ if { path,url_dec -m reg -i \\^/\\+requests\\(/\\|\\$\\) }\n",
      one(docker_container.config.upload).content,
    )) == 2 + length(regexall("\nfrontend load-", one(docker_container.config.upload).content))
    error_message = "A front end of an environment lets requests for them through."
  }
}

run "on_loopback_all_clients_have_one_address_and_no_share_of_it" {
  assert {
    condition     = !strcontains(one(docker_container.config.upload).content, "conn_cur")
    error_message = "This machine's clients would shut each other out."
  }
}

run "what_a_request_says_of_its_way_is_the_edges_to_say" {
  assert {
    condition = alltrue([
      for line in [
        "hdr connection close if { req.fhdr_cnt(host) gt 1 }",
        "hdr connection close if { req.ver 1.1 } { req.fhdr_cnt(host) eq 0 }",
        "http-request del-header forwarded",
        "http-request del-header x-real-ip",
        "http-request del-header x-forwarded- -m beg",
        "http-request set-header x-forwarded-for %[src]",
        "http-request set-header x-forwarded-proto http",
      ] : strcontains(one(docker_container.config.upload).content, line)
    ])
    error_message = "A client could name another host, or forge where it came from."
  }
}

run "a_model_answers_below_its_name_and_the_default_one_at_the_root_too" {
  variables {
    model = "churn-model"
    models = { "Tenure.Model" = { key = "tenure", number = 3, environments = {
      production = { replicas = 4, services = { baseline = "slipway-production-tenure-baseline", live = "slipway-production-tenure-live", trial = "slipway-production-tenure-trial" } }
      staging    = { replicas = 1, services = { baseline = "slipway-staging-tenure-baseline", live = "slipway-staging-tenure-live", trial = "slipway-staging-tenure-trial" } }
    } } }
  }

  assert {
    condition = alltrue([
      for name in ["production", "staging"] : strcontains(one(docker_container.config.upload).content, join("\n", [
        "  use_backend ${name}.tenure-alive if { var(txn.model) -m str Tenure.Model } { nbsrv(${name}.tenure) eq 0 }",
        "  use_backend ${name}.tenure if { var(txn.model) -m str Tenure.Model }",
        "  use_backend ${name}-alive if { nbsrv(${name}) eq 0 }",
        "  default_backend ${name}",
      ]))
    ])
    error_message = "A request would get to another model than the one it names."
  }

  assert {
    condition = length(regexall(
      "of-default-model [^\n]* churn-model\n  acl of-further-model [^\n]* Tenure.Model\n[^\n]* 404 [^\n]* !of-default-model !of-further-model\n",
      one(docker_container.config.upload).content,
    )) == 2
    error_message = "The default model would answer for one that is not there."
  }

  assert {
    condition = alltrue([
      for line in [
        "server-template live 10 tasks.slipway-production-tenure-live:8000 weight 100 maxconn 512",
        "server-template trial 4 tasks.slipway-staging-tenure-trial:8000 weight 0 maxconn 64",
        "http-check send meth GET uri-lf \"/ready%[srv_name,map_beg(virt@production.tenure,?)]\"",
        "defaults staging.tenure-ready from common\n  retries 1\n",
      ] : strcontains(one(docker_container.config.upload).content, line)
    ])
    error_message = "Its slots are not those of the default model, in their own size."
  }

  assert {
    condition = output.models == {
      "Tenure.Model" = {
        production = {
          backend   = "production.tenure"
          load_urls = { baseline = "http://slipway-edge:8307", live = "http://slipway-edge:8107", trial = "http://slipway-edge:8207" }
        }
        staging = {
          backend   = "staging.tenure"
          load_urls = { baseline = "http://slipway-edge:8306", live = "http://slipway-edge:8106", trial = "http://slipway-edge:8206" }
        }
      }
    }
    error_message = "Load runs would look elsewhere."
  }

  assert {
    condition = alltrue([
      for ports, backends in {
        "8101 8107" = ["production.tenure", "production"], "8301 8307" = ["production.tenure-baseline", "production-baseline"]
        } : strcontains(one(docker_container.config.upload).content, join("\n", [
          "  bind :${split(" ", ports)[0]} proto h1",
          "  bind :${split(" ", ports)[1]} proto h1",
          "  maxconn 600",
          "  tcp-request connection reject unless { dst 10.0.2.0/24 }",
          "  http-request return status 404 content-type application/json string '{\"error\":{\"code\":\"not_found\"}}' if { path,url_dec -m reg -i ^/+requests(/|$) }",
          "  use_backend ${backends[0]} if { dst_port ${split(" ", ports)[1]} }",
          "  default_backend ${backends[1]}",
      ]))
    ])
    error_message = "A load run would get to another slot, or have more connections than one run at a time has."
  }

  assert {
    condition = alltrue([
      for place in ["production", "production.tenure"] :
      length(regexall("be_conn\\(${place}\\) ge 1000 }", one(docker_container.config.upload).content)) == 1
    ])
    error_message = "A model that hangs would keep what the other one needs."
  }

  assert {
    condition = sum([
      for bound in flatten(regexall("\n  bind [^\n]+\n  maxconn ([0-9]+)", one(docker_container.config.upload).content)) : tonumber(bound)
    ]) < tonumber(one(regex("global[^#]*\n  maxconn ([0-9]+)", one(docker_container.config.upload).content)))
    error_message = "The shares are more than there are connections, so one could take another's."
  }

  assert {
    condition     = strcontains(one(docker_container.config.upload).content, "  maxconn 8000\n")
    error_message = "Two models want more files open than one, which an engine may not let the edge have."
  }

  assert {
    condition = alltrue([
      for container in docker_container.edge :
      length(container.upload) == 0 && length(container.env) == 0 && length(container.ports) == 5
    ])
    error_message = "Another model would replace the edge."
  }
}

run "an_only_model_shares_with_nobody" {
  variables {
    model = "churn-model"
  }

  assert {
    condition     = !strcontains(one(docker_container.config.upload).content, "be_conn") && strcontains(one(docker_container.config.upload).content, "if { path_beg /models/ } !of-default-model\n")
    error_message = "It has less than a front end has, or does not answer below its name."
  }
}

run "without_an_own_object_store_nothing_stands_for_s3" {
  variables {
    networks = {
      control         = { id = "n1", subnet = "10.0.1.0/24" }
      load-production = { id = "n2", subnet = "10.0.2.0/24" }
      load-staging    = { id = "n3", subnet = "10.0.3.0/24" }
      production      = { id = "n4", subnet = "10.0.4.0/24" }
      publish-edge    = { id = "n5", subnet = "10.0.5.0/24" }
      staging         = { id = "n7", subnet = "10.0.7.0/24" }
    }
    upstreams = {
      api    = "slipway-api:8080"
      mlflow = "slipway-mlflow:5000"
    }
  }

  assert {
    condition     = !contains([for port in docker_container.edge[0].ports : port.external], 9000)
    error_message = "It still publishes the port of S3."
  }

  assert {
    condition     = !strcontains(one(docker_container.config.upload).content, "frontend s3")
    error_message = "Its configuration still has S3."
  }
}

run "stopped_there_is_no_container_and_the_configuration_stays" {
  variables {
    running = false
  }

  assert {
    condition     = length(docker_container.edge) == 0 && docker_volume.config.name == "slipway-edge-config"
    error_message = "It still runs, or its volume is gone."
  }
}

run "on_every_address_it_is_a_service_with_tls" {
  variables {
    bind_address = "0.0.0.0"
    tls = {
      certificate = { id = "sssssssssssssssssssssss01", name = "slipway-tls" }
      key         = { id = "sssssssssssssssssssssss02", name = "slipway-tls-key" }
    }
  }

  assert {
    condition = alltrue([
      for name, most in { production = 500, staging = 250, api = 100, mlflow = 100, s3 = 100 } : length(regexall(
        "frontend ${name} from front\n(?:  [^\n]*\n)*  tcp-request connection reject if { sc0_conn_cur gt ${most} }\n",
        one(docker_container.config.upload).content,
      )) == 1
    ])
    error_message = "One client could take a front end's whole share."
  }

  assert {
    condition     = length(docker_container.edge) == 0 && length(module.service) == 1 && output.service == "slipway-edge"
    error_message = "It is not one service."
  }

  assert {
    condition     = length(regexall("ssl crt /run/secrets/tls.pem", one(docker_container.config.upload).content)) == 5
    error_message = "A front end answers in clear text."
  }

  assert {
    condition = toset([
      for secret in module.service[0].service.task_spec[0].container_spec[0].secrets : secret.file_name
    ]) == toset(["tls.pem", "tls.pem.key"])
    error_message = "A secret is missing."
  }

  assert {
    condition = toset([
      for port in module.service[0].service.endpoint_spec[0].ports : "${port.publish_mode} ${port.published_port}"
    ]) == toset(["host 5000", "host 8000", "host 8001", "host 8080", "host 9000"])
    error_message = "It publishes something else than its five ports, or through the routing mesh."
  }

  assert {
    condition     = module.service[0].service.update_config[0].order == "stop-first"
    error_message = "Two would want the same ports."
  }
}

run "every_address_without_tls_is_refused" {
  command = plan

  variables {
    bind_address = "0.0.0.0"
  }

  expect_failures = [var.bind_address]
}

run "tls_on_loopback_is_refused" {
  command = plan

  variables {
    tls = {
      certificate = { id = "sssssssssssssssssssssss01", name = "slipway-tls" }
      key         = { id = "sssssssssssssssssssssss02", name = "slipway-tls-key" }
    }
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

run "a_key_in_the_place_of_its_secret_is_refused" {
  command = plan

  variables {
    bind_address = "0.0.0.0"
    tls = {
      certificate = { id = "sssssssssssssssssssssss01", name = "slipway-tls" }
      key         = { id = "-----BEGIN PRIVATE KEY-----", name = "slipway-tls-key" }
    }
  }

  expect_failures = [var.tls]
}

run "an_unknown_environment_is_refused" {
  command = plan

  variables {
    environments = {
      canary = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
    }
  }

  expect_failures = [var.environments]
}

run "the_database_network_is_refused" {
  command = plan

  variables {
    networks = merge(var.networks, { database = { id = "n8", subnet = "10.0.8.0/24" } })
  }

  expect_failures = [var.networks]
}

run "a_port_given_twice_is_refused" {
  command = plan

  variables {
    ports = { staging = 8001 }
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

run "an_upstream_without_a_port_is_refused" {
  command = plan

  variables {
    upstreams = { api = "slipway-api", mlflow = "slipway-mlflow:5000", s3 = "slipway-minio:9000" }
  }

  expect_failures = [var.upstreams]
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

run "a_quarter_of_a_cpu_which_reads_back_differently_is_refused" {
  command = plan

  variables {
    limits = { cpus = 0.25 }
  }

  expect_failures = [var.limits]
}

run "too_little_memory_is_refused" {
  command = plan

  variables {
    limits = { memory_mb = 32 }
  }

  expect_failures = [var.limits]
}

run "half_a_megabyte_is_refused" {
  command = plan

  variables {
    limits = { memory_mb = 512.5 }
  }

  expect_failures = [var.limits]
}

run "a_prefix_with_a_capital_is_refused" {
  command = plan

  variables {
    prefix = "Slipway"
  }

  expect_failures = [var.prefix]
}

run "further_models_without_a_default_one_are_refused" {
  command = plan

  variables {
    models = { second = { key = "second", number = 1, environments = {
      production = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
      staging    = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
    } } }
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
    model = "first"
    models = { "a } or { always_true" = { key = "second", number = 1, environments = {
      production = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
      staging    = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
    } } }
  }

  expect_failures = [var.models]
}

run "a_model_that_is_in_one_environment_only_is_refused" {
  command = plan

  variables {
    model = "first"
    models = { second = { key = "second", number = 1, environments = {
      staging = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
    } } }
  }

  expect_failures = [var.models]
}

run "a_fiftieth_further_model_is_refused" {
  command = plan

  variables {
    model = "first"
    models = { second = { key = "second", number = 50, environments = {
      production = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
      staging    = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
    } } }
  }

  expect_failures = [var.models]
}

run "one_number_for_two_models_is_refused" {
  command = plan

  variables {
    model = "first"
    models = { for name in ["second", "third"] : name => { key = name, number = 1, environments = {
      production = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
      staging    = { replicas = 1, services = { baseline = "b", live = "l", trial = "t" } }
    } } }
  }

  expect_failures = [var.models]
}
