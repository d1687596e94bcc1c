variable "image" {
  description = "Image of the service without a release, by id or digest."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([^@[:space:]]+@)?sha256:[0-9a-f]{64}$", var.image))
    error_message = "image is sha256:<64 hex digits> or name@sha256:<64 hex digits>; a tag can be moved."
  }
}

variable "limits" {
  description = "The most CPU and memory that a replica may use."
  type = object({
    cpus      = optional(number, 1)
    memory_mb = optional(number, 512)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.limits.cpus >= 0.1 && var.limits.cpus <= 64
    error_message = "limits.cpus is a number from 0.1 to 64."
  }

  validation {
    condition     = var.limits.memory_mb >= 64 && floor(var.limits.memory_mb) == var.limits.memory_mb
    error_message = "limits.memory_mb is a whole number of at least 64."
  }
}

variable "model" {
  description = "A further model whose slots these are, and what stands for it in names; null for the default one."
  type = object({
    key  = string
    name = string
  })
  default = null

  validation {
    condition     = var.model == null ? true : can(regex("^[a-z0-9]([a-z0-9-]{0,16}[a-z0-9])?$", var.model.key))
    error_message = "model.key is 1 to 18 lower-case letters, digits and hyphens, without a hyphen at an end."
  }
}

variable "name" {
  description = "Name of the environment."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["production", "staging"], var.name)
    error_message = "name is production or staging."
  }
}

variable "network_id" {
  description = "Id of the environment's own network, the only one its replicas join."
  type        = string
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

variable "replicas" {
  description = "Replicas of the live slot."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = contains(range(1, 51), var.replicas)
    error_message = "replicas is a whole number from 1 to 50."
  }
}

variable "running" {
  description = "Whether anything runs; false keeps networks, volumes and services and runs no container."
  type        = bool
  default     = true
  nullable    = false
}
