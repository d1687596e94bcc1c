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

variable "environments" {
  description = "Environment -> replicas of its live slot, and slot -> name of the service."
  type = map(object({
    replicas = number
    services = object({
      baseline = string
      live     = string
      trial    = string
    })
  }))
  nullable = false

  validation {
    condition     = length(var.environments) > 0 && length(setsubtract(keys(var.environments), ["production", "staging"])) == 0
    error_message = "environments has production, staging or both."
  }
}

variable "image" {
  description = "Image of the edge, by id or digest."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([^@[:space:]]+@)?sha256:[0-9a-f]{64}$", var.image))
    error_message = "image is sha256:<64 hex digits> or name@sha256:<64 hex digits>; a tag can be moved."
  }
}

variable "limits" {
  description = "The most CPU and memory that the edge may use."
  type = object({
    cpus      = optional(number, 1)
    memory_mb = optional(number, 512)
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains([for tenth in range(1, 100) : tenth], var.limits.cpus * 10)
    error_message = "limits.cpus is a number from 0.1 to 9.9 in tenths; a finer one is read back in another form."
  }

  validation {
    condition     = var.limits.memory_mb >= 64 && floor(var.limits.memory_mb) == var.limits.memory_mb
    error_message = "limits.memory_mb is a whole number of at least 64."
  }
}

variable "model" {
  description = "Name of the default model, which answers at the root of an environment's port. Without it nothing does below /models."
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

variable "models" {
  description = "Further models, by name: what stands for it in names, which of the load ports are its own, and its services in each environment."
  type = map(object({
    environments = map(object({
      replicas = number
      services = object({
        baseline = string
        live     = string
        trial    = string
      })
    }))
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
    condition     = alltrue([for model in var.models : toset(keys(model.environments)) == toset(keys(var.environments))])
    error_message = "Each of models is in exactly the environments that there are."
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
}

variable "networks" {
  description = "Network -> id and subnet of the networks to join."
  type = map(object({
    id     = string
    subnet = string
  }))
  nullable = false

  validation {
    condition = toset(keys(var.networks)) == setunion(
      ["control", "publish-edge"], keys(var.environments), [for name in keys(var.environments) : "load-${name}"],
      var.upstreams.s3 == null ? [] : ["s3"],
    )
    error_message = "networks has exactly control, publish-edge, each environment, its load-<environment>, and s3 with such an upstream."
  }
}

variable "placement" {
  description = "Swarm placement constraints; a service with a volume has to stay on one node."
  type        = list(string)
  default     = ["node.role==manager"]
  nullable    = false
}

variable "ports" {
  description = "Ports to publish."
  type = object({
    api        = optional(number, 8080)
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
  description = "First part of every name."
  type        = string
  default     = "slipway"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.prefix))
    error_message = "prefix is 2 to 24 lower-case letters, digits and hyphens, begins with a letter, does not end with a hyphen."
  }
}

variable "running" {
  description = "Whether anything runs; false keeps networks, volumes and services and runs no container."
  type        = bool
  default     = true
  nullable    = false
}

variable "tls" {
  description = "Docker secrets: certificate chain and key in PEM. Null without TLS."
  type = object({
    certificate = object({ id = string, name = string })
    key         = object({ id = string, name = string })
  })
  default = null

  validation {
    condition = var.tls == null ? true : alltrue([
      for secret in values(var.tls) : can(regex("^[a-z0-9]{25}$", secret.id))
    ])
    error_message = "tls holds ids of Docker secrets, 25 characters each; a certificate or key must not come here."
  }
}

variable "upstreams" {
  description = "Service and port of what is behind the edge besides the environments; s3 is null with an external object store."
  type = object({
    api    = string
    mlflow = string
    s3     = optional(string)
  })
  nullable = false

  validation {
    condition = alltrue([
      for address in values(var.upstreams) : address == null ? true : can(regex("^[a-z0-9-]+:[0-9]+$", address))
    ])
    error_message = "Each of upstreams is the name of a service and a port: name:port."
  }
}
