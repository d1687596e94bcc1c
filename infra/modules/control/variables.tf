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

variable "docker_socket" {
  description = "The engine's socket on a manager, and the group that may use it."
  type = object({
    path = optional(string, "/var/run/docker.sock")
    gid  = optional(number, 0)
  })
  default  = {}
  nullable = false

  validation {
    condition     = startswith(var.docker_socket.path, "/") && var.docker_socket.gid >= 0
    error_message = "docker_socket has an absolute path and the number of a group."
  }
}

variable "env" {
  description = "Further settings of each process. A secret is not one of them: name its file as NAME_FILE."
  type = object({
    api      = optional(map(string), {})
    executor = optional(map(string), {})
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for name, value in merge(var.env.api, var.env.executor) :
      startswith(value, "/run/secrets/") if can(regex("(PASSWORD|SECRET|TOKENS?|KEY)(_FILE)?$", name))
    ])
    error_message = "A password, secret, token or key comes as NAME_FILE with a path under /run/secrets."
  }
}

variable "files" {
  description = "File name under /etc/slipway -> content."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.files) : can(regex("^[a-z][a-z0-9.-]{0,30}$", name))])
    error_message = "The name of a file is 1 to 31 lower-case letters, digits, dots and hyphens."
  }
}

variable "home" {
  description = "Where the processes keep files: a volume, or a directory of the node; and whose they are."
  type = object({
    path = optional(string)
    uid  = optional(number, 10001)
    gid  = optional(number, 10001)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.home.path == null ? true : startswith(var.home.path, "/")
    error_message = "home.path is an absolute path on the node; leave it out for a volume."
  }
}

variable "image" {
  description = "Image of the control processes, by id or digest."
  type        = string
  nullable    = false
}

variable "limits" {
  description = "The most CPU and memory that each process may use."
  type = object({
    api = optional(object({
      cpus      = optional(number, 1)
      memory_mb = optional(number, 512)
    }), {})
    executor = optional(object({
      cpus      = optional(number, 2)
      memory_mb = optional(number, 2048)
    }), {})
  })
  default  = {}
  nullable = false
}

variable "networks" {
  description = "Network -> id of the networks to join."
  type        = map(string)
  nullable    = false

  validation {
    condition     = toset(keys(var.networks)) == toset(["control", "database", "images", "objects", "production", "staging"])
    error_message = "networks has exactly control, database, images, objects, production and staging."
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
  description = "Docker secrets of each process: file name under /run/secrets -> id and name. Values never come here."
  type = object({
    api      = map(object({ id = string, name = string }))
    executor = map(object({ id = string, name = string }))
    tables   = map(object({ id = string, name = string }))
  })
  nullable = false

  validation {
    condition     = alltrue([for process in [var.secrets.api, var.secrets.executor] : contains(keys(process), "slipway-database")])
    error_message = "secrets has slipway-database for each process."
  }

  validation {
    condition = toset(keys(var.secrets.tables)) == toset(["slipway-owner"]) && !anytrue([
      for process in [var.secrets.api, var.secrets.executor] : contains(keys(process), "slipway-owner")
    ])
    error_message = "secrets has slipway-owner for tables, which need no other, and for nothing else."
  }
}
