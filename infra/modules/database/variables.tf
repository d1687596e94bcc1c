variable "databases" {
  description = "Databases to make, each with a role of its name that may use it; it owns it unless another is named in owned."
  type        = set(string)
  default     = ["mlflow", "slipway", "workflows"]
  nullable    = false

  validation {
    condition     = alltrue([for name in var.databases : can(regex("^[a-z][a-z0-9_]{0,30}$", name))])
    error_message = "A database's name is 1 to 31 lower-case letters, digits and underscores and begins with a letter."
  }
}

variable "image" {
  description = "Image of the database, by id or digest."
  type        = string
  nullable    = false
}

variable "limits" {
  description = "The most CPU and memory that the database may use."
  type = object({
    cpus      = optional(number, 1)
    memory_mb = optional(number, 512)
  })
  default  = {}
  nullable = false
}

variable "networks" {
  description = "Network -> id of the networks to join."
  type        = map(string)
  nullable    = false

  validation {
    condition     = toset(keys(var.networks)) == toset(["database"])
    error_message = "networks has exactly database."
  }
}

variable "owned" {
  description = "Those of databases that belong to a role <name>-owner: the role of their name only uses what that grants."
  type        = set(string)
  default     = ["slipway"]
  nullable    = false

  validation {
    condition     = length(setsubtract(var.owned, var.databases)) == 0
    error_message = "owned names some of databases."
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
    condition = toset(keys(var.secrets)) == setunion(
      ["postgres"], [for name in var.databases : "${name}-database"], [for name in var.owned : "${name}-owner"],
    )
    error_message = "secrets has exactly postgres, for the superuser, <name>-database for each of databases and <name>-owner for each of owned."
  }
}
