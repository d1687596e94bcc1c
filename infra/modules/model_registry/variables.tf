variable "allowed_hosts" {
  description = "Values of the Host header that clients send through the edge."
  type        = list(string)
  nullable    = false

  validation {
    condition     = alltrue([for host in var.allowed_hosts : can(regex("^[a-z0-9.-]+:[0-9]+$", host))])
    error_message = "Each of allowed_hosts is host:port; MLflow compares the port as well."
  }
}

variable "database" {
  description = "Where PostgreSQL answers."
  type = object({
    host = string
    port = optional(number, 5432)
  })
  nullable = false

  validation {
    condition     = can(regex("^[a-z0-9.-]+$", var.database.host))
    error_message = "database.host is a name or an address, without a user, password or port."
  }
}

variable "image" {
  description = "Image of the model registry, by id or digest."
  type        = string
  nullable    = false
}

variable "limits" {
  description = "The most CPU and memory that the model registry may use; files that it sends take up to 640 MiB of it."
  type = object({
    cpus      = optional(number, 1)
    memory_mb = optional(number, 1920)
  })
  default  = {}
  nullable = false
}

variable "networks" {
  description = "Network -> id of the networks to join."
  type        = map(string)
  nullable    = false

  validation {
    condition     = toset(keys(var.networks)) == toset(["control", "database", "objects"])
    error_message = "networks has exactly control, database and objects."
  }
}

variable "object_store" {
  description = "Where artifacts go; authority_file holds who signed its certificate, where not everybody knows who did."
  type = object({
    authority_file = optional(string)
    bucket         = string
    endpoint       = string
    region         = optional(string, "us-east-1")
  })
  nullable = false

  validation {
    condition     = can(regex("^https?://[^/@]+$", var.object_store.endpoint))
    error_message = "object_store.endpoint is http(s)://host:port, without a path or credentials."
  }

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.object_store.bucket))
    error_message = "object_store.bucket is 3 to 63 lower-case letters, digits, dots and hyphens."
  }
}

variable "placement" {
  description = "Swarm placement constraints; a service with a volume has to stay on one node."
  type        = list(string)
  default     = ["node.role==manager"]
  nullable    = false
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

variable "secrets" {
  description = "Docker secrets to mount: file name under /run/secrets -> id and name. Values never come here."
  type = map(object({
    id   = string
    name = string
  }))
  nullable = false

  validation {
    condition = toset(keys(var.secrets)) == toset(compact([
      "mlflow-admin", "mlflow-database", "mlflow-objects-password", "mlflow-objects-user", "mlflow-session-key",
      "mlflow-webhook-key", try(basename(var.object_store.authority_file), null),
    ]))
    error_message = "secrets has exactly mlflow-admin, -database, -objects-password, -objects-user, -session-key and -webhook-key, and object_store.authority_file if that is given."
  }
}

variable "url" {
  description = "URL that people open; requests of its pages are the only ones of a browser that are let in."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^https?://[^/@]+$", var.url))
    error_message = "url is http(s)://host:port, without a path."
  }
}
