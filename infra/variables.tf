variable "bind_address" {
  description = "Address to publish on: a loopback one, or 0.0.0.0 for every address of the node."
  type        = string
  default     = "127.0.0.1"
  nullable    = false

  validation {
    condition     = var.bind_address == "0.0.0.0" || can(regex("^127(\\.[0-9]{1,3}){3}$", var.bind_address))
    error_message = "bind_address is a loopback address (127.x.x.x) or 0.0.0.0."
  }

  validation {
    condition     = (var.bind_address == "0.0.0.0") == (var.tls != null)
    error_message = "bind_address 0.0.0.0 needs tls, and only it can have tls: a container on loopback gets no secrets."
  }
}

variable "buckets" {
  description = "Buckets of the object store: for artifacts of models, data, and heads of the audit chain."
  type = object({
    artifacts = optional(string, "mlflow")
    dvc       = optional(string, "dvc")
    heads     = optional(string, "audit-heads")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in values(var.buckets) : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", name))])
    error_message = "The name of a bucket is 3 to 63 lower-case letters, digits, dots and hyphens."
  }

  validation {
    condition     = length(distinct(values(var.buckets))) == 3
    error_message = "Two of buckets are the same; each has its own user."
  }
}

variable "docker_host" {
  description = "The engine, a Swarm manager, that Terraform talks to."
  type        = string
  default     = "unix:///var/run/docker.sock"
  nullable    = false

  validation {
    condition     = can(regex("^(unix:///|ssh://|tcp://).+$", var.docker_host))
    error_message = "docker_host is unix:///path, ssh://user@host or tcp://host:port."
  }
}

variable "docker_socket" {
  description = "The engine's socket as the executor mounts it, and the number of the group that may use it."
  type = object({
    gid  = optional(number, 0)
    path = optional(string, "/var/run/docker.sock")
  })
  default  = {}
  nullable = false

  validation {
    condition     = startswith(var.docker_socket.path, "/") && var.docker_socket.gid >= 0
    error_message = "docker_socket has an absolute path and the number of a group."
  }
}

variable "encrypted_networks" {
  description = "Whether networks are encrypted between nodes. Another value replaces every network; one from before has none."
  type        = bool
  default     = false
  nullable    = false
}

variable "environments" {
  description = "The environments: replicas of the live slot, and the most that each replica may use."
  type = map(object({
    cpus      = optional(number, 1)
    memory_mb = optional(number, 512)
    replicas  = optional(number, 1)
  }))
  default = {
    production = { replicas = 2 }
    staging    = {}
  }
  nullable = false

  validation {
    condition     = toset(keys(var.environments)) == toset(["production", "staging"])
    error_message = "environments has exactly production and staging."
  }

  validation {
    condition     = alltrue([for environment in var.environments : contains(range(1, 51), environment.replicas)])
    error_message = "replicas is a whole number from 1 to 50."
  }
}

variable "external_url" {
  description = "What links show before the port: scheme and name under which people reach the edge. Null for the bind address."
  type        = string
  default     = null

  validation {
    condition     = var.external_url == null ? true : can(regex("^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", var.external_url))
    error_message = "external_url is http(s)://name, without a port, a path or a slash at its end."
  }

  validation {
    condition     = var.tls == null || startswith(coalesce(var.external_url, "http:"), "https:")
    error_message = "external_url is https://name with tls: the name in the certificate."
  }
}

variable "home" {
  description = "Where API and executor keep files: a volume, or a directory of the node; and whose they are."
  type = object({
    gid  = optional(number, 10001)
    path = optional(string)
    uid  = optional(number, 10001)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.home.path == null ? true : startswith(var.home.path, "/")
    error_message = "home.path is an absolute path on the node; leave it out for a volume."
  }

  validation {
    condition     = var.home.uid >= 1 && var.home.gid >= 1
    error_message = "home.uid and home.gid are those of a user that is not root."
  }
}

variable "image_registry_external" {
  description = "An image registry to use instead of an own one: what stands before an image's name. With has_authority the secret ca.pem holds who signed its certificate."
  type = object({
    address       = string
    has_authority = optional(bool, false)
  })
  default = null

  validation {
    condition = var.image_registry_external == null ? true : can(
      regex("^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9._-]+)*$", var.image_registry_external.address)
    )
    error_message = "image_registry_external.address is host[:port][/path], without a scheme."
  }
}

variable "images" {
  description = "The images, each by id or digest. minio and image_registry may be left out where an external one is used."
  type = object({
    app            = string
    control        = string
    edge           = string
    image_registry = optional(string)
    loadtest       = string
    minio          = optional(string)
    mlflow         = string
    postgres       = string
  })
  nullable = false

  validation {
    condition = alltrue([
      for image in values(var.images) : image == null ? true : can(regex("^([^@[:space:]]+@)?sha256:[0-9a-f]{64}$", image))
    ])
    error_message = "Each of images is sha256:<64 hex digits> or name@sha256:<64 hex digits>; a tag can be moved."
  }

  validation {
    condition     = var.images.minio != null || var.object_store_external != null
    error_message = "images.minio is needed unless object_store_external is given."
  }

  validation {
    condition     = var.images.image_registry != null || var.image_registry_external != null
    error_message = "images.image_registry is needed unless image_registry_external is given."
  }
}

variable "installation_id" {
  description = "Which installation this is, for ever; its API names it, and serves nobody who means another."
  type        = string
  default     = null

  validation {
    condition     = var.installation_id == null || can(regex("^[0-9a-f]{32}$", var.installation_id))
    error_message = "installation_id is 32 hexadecimal digits, or null."
  }
}

variable "limits" {
  description = "The most CPU and memory that each service may use; what is left out has a default in its module."
  type = object({
    api            = optional(object({ cpus = optional(number), memory_mb = optional(number) }), {})
    database       = optional(object({ cpus = optional(number), memory_mb = optional(number) }), {})
    edge           = optional(object({ cpus = optional(number), memory_mb = optional(number) }), {})
    executor       = optional(object({ cpus = optional(number), memory_mb = optional(number) }), {})
    image_registry = optional(object({ cpus = optional(number), memory_mb = optional(number) }), {})
    model_registry = optional(object({ cpus = optional(number), memory_mb = optional(number) }), {})
    object_store   = optional(object({ cpus = optional(number), memory_mb = optional(number) }), {})
  })
  default  = {}
  nullable = false
}

variable "model" {
  description = "Name of the default model, that of model_file, which the edge answers for below /models too. Null before it was known here."
  type        = string
  default     = null

  validation {
    condition     = var.model == null ? true : can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$", var.model))
    error_message = "model is at most 128 letters, digits, dots, hyphens and underscores, a letter or digit first and last."
  }

  validation {
    condition     = var.model == null ? length(var.models) == 0 : !contains(keys(var.models), var.model)
    error_message = "models needs model, and does not have it once more."
  }
}

variable "model_file" {
  description = "Path of model.yaml, which API and executor read."
  type        = string
  default     = "../model.yaml"
  nullable    = false

  validation {
    condition     = fileexists(var.model_file)
    error_message = "model_file is the path of an existing file, from where Terraform runs."
  }
}

variable "models" {
  description = "Further models, by name: what stands for each in names of services, which of the load ports are its own, and what differs from environments."
  type = map(object({
    environments = optional(map(object({
      cpus      = optional(number)
      memory_mb = optional(number)
      replicas  = optional(number)
    })), {})
    key    = string
    number = number
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.models) : can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$", name))])
    error_message = "The name of a model is at most 128 letters, digits, dots, hyphens and underscores, a letter or digit first and last."
  }

  validation {
    condition     = alltrue([for model in var.models : can(regex("^[a-z0-9]([a-z0-9-]{0,16}[a-z0-9])?$", model.key))])
    error_message = "The key of a model is 1 to 18 lower-case letters, digits and hyphens, without a hyphen at an end."
  }

  validation {
    condition     = alltrue([for model in var.models : contains(range(1, 50), model.number)])
    error_message = "The number of a model is a whole one from 1 to 49: there are no more load ports."
  }

  validation {
    condition = alltrue([
      for values in [[for model in var.models : model.key], [for model in var.models : tostring(model.number)]] :
      length(distinct(values)) == length(values)
    ])
    error_message = "Two of models have the same key or number; give each its own."
  }

  validation {
    condition = alltrue([
      for model in var.models : length(setsubtract(keys(model.environments), ["production", "staging"])) == 0
    ])
    error_message = "A model can differ in production and staging; there is no other environment."
  }

  validation {
    condition = alltrue(flatten([
      for model in var.models : [
        for environment in values(model.environments) :
        environment.replicas == null ? true : contains(range(1, 51), environment.replicas)
      ]
    ]))
    error_message = "replicas is a whole number from 1 to 50."
  }
}

variable "object_store_external" {
  description = "An S3 object store to use instead of MinIO, whose owner makes buckets and users. url is the endpoint for others than containers. With has_authority the secret objects-ca.pem holds who signed its certificate."
  type = object({
    endpoint      = string
    has_authority = optional(bool, false)
    region        = optional(string, "us-east-1")
    url           = optional(string)
  })
  default = null

  validation {
    condition = var.object_store_external == null ? true : alltrue([
      for url in [var.object_store_external.endpoint, coalesce(var.object_store_external.url, "http://none")] :
      can(regex("^https?://([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?$", url))
    ])
    error_message = "object_store_external.endpoint and url are http(s)://host[:port], without a path or credentials."
  }
}

variable "ports" {
  description = "Ports to publish: of the edge, and with images of the image registry."
  type = object({
    api        = optional(number, 8080)
    images     = optional(number, 5001)
    mlflow     = optional(number, 5000)
    production = optional(number, 8001)
    s3         = optional(number, 9000)
    staging    = optional(number, 8000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for port in values(var.ports) : port >= 1 && port <= 65535 && floor(port) == port])
    error_message = "Each of ports is a whole number from 1 to 65535."
  }

  validation {
    condition     = length(distinct(values(var.ports))) == length(values(var.ports))
    error_message = "Two of ports are the same; give each its own."
  }
}

variable "prefix" {
  description = "First part of every name; another one is another installation on the same engine."
  type        = string
  default     = "slipway"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.prefix))
    error_message = "prefix is 2 to 24 lower-case letters, digits and hyphens, begins with a letter, does not end with a hyphen."
  }
}

variable "running" {
  description = "Whether anything runs; false keeps networks, volumes, services and what they serve, and runs no container."
  type        = bool
  default     = true
  nullable    = false
}

variable "secrets" {
  description = "Docker secrets: what they are for -> id and name. Their values are made elsewhere and never come here."
  type = map(object({
    id   = string
    name = string
  }))
  nullable = false

  validation {
    condition     = alltrue([for secret in var.secrets : can(regex("^[a-z0-9]{25}$", secret.id))])
    error_message = "A secret's id is the 25 characters that Docker gave it; its value must not come here."
  }

  validation {
    condition     = length(setsubtract(flatten(values(local.readers)), keys(var.secrets))) == 0
    error_message = "secrets lacks ${join(", ", sort(setsubtract(flatten(values(local.readers)), keys(var.secrets))))}."
  }
}

variable "serving" {
  description = "Whether more runs than what keeps data, and the edge that leads there; false while a backup is put back."
  type        = bool
  default     = true
  nullable    = false
}

variable "state_node" {
  description = "Id of the node of docker_host, which keeps the volumes and publishes the ports; needed with several managers."
  type        = string
  default     = null

  validation {
    condition     = var.state_node == null ? true : can(regex("^[a-z0-9]{25}$", var.state_node))
    error_message = "state_node is the 25 characters that Docker gave the node."
  }
}

variable "tls" {
  description = "Docker secrets: certificate chain and key in PEM, and who may use the image registry, as htpasswd. Null on loopback."
  type = object({
    certificate    = object({ id = string, name = string })
    key            = object({ id = string, name = string })
    registry_users = object({ id = string, name = string })
  })
  default = null

  validation {
    condition = var.tls == null ? true : alltrue([
      for secret in values(var.tls) : can(regex("^[a-z0-9]{25}$", secret.id))
    ])
    error_message = "tls holds ids of Docker secrets, 25 characters each; a certificate or key must not come here."
  }
}
