variable "aliases" {
  description = "Network -> further names by which the service is found there."
  type        = map(list(string))
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.aliases), keys(var.networks))) == 0
    error_message = "aliases names some of networks."
  }
}

variable "args" {
  description = "Words after the image's entry point; null leaves them to the image."
  type        = list(string)
  default     = null
}

variable "configs" {
  description = "Path in the container -> id and name of the Swarm config that is seen there."
  type        = map(object({ id = string, name = string }))
  default     = {}
  nullable    = false
}

variable "converge_timeout" {
  description = "How long Terraform waits for it to be up."
  type        = string
  default     = "3m"
  nullable    = false
}

variable "env" {
  description = "Environment of the process. Never a secret's value: name its file."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "health" {
  description = "The health check, and for how long after a start its failures don't count; NONE for what ends by itself."
  type = object({
    test         = list(string)
    interval     = optional(string, "5s")
    timeout      = optional(string, "5s")
    start_period = optional(string, "1m")
  })
  nullable = false

  validation {
    condition = var.once ? var.health.test == tolist(["NONE"]) : (
      length(var.health.test) > 1 && contains(["CMD", "CMD-SHELL"], var.health.test[0])
    )
    error_message = "health.test is CMD and words, or CMD-SHELL and a line; a service without one takes requests too early."
  }
}

variable "image" {
  description = "Image of the service, by id or digest."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([^@[:space:]]+@)?sha256:[0-9a-f]{64}$", var.image))
    error_message = "image is sha256:<64 hex digits> or name@sha256:<64 hex digits>; a tag can be moved."
  }
}

variable "init" {
  description = "Whether the engine's init is the first process, for one that does not end the children it leaves."
  type        = bool
  default     = null
}

variable "labels" {
  description = "Label -> value."
  type        = map(string)
  nullable    = false
}

variable "limits" {
  description = "The most CPU and memory that it may use."
  type        = object({ cpus = number, memory_mb = number })
  nullable    = false

  validation {
    condition     = var.limits.cpus >= 0.1 && var.limits.cpus <= 64
    error_message = "limits.cpus is a number from 0.1 to 64."
  }

  validation {
    condition     = var.limits.memory_mb >= 64 && floor(var.limits.memory_mb) == var.limits.memory_mb
    error_message = "limits.memory_mb is a whole number of at least 64."
  }
}

variable "mounts" {
  description = "Path in the container -> volume, or absolute path of the node, that is mounted there."
  type        = map(object({ source = string, read_only = optional(bool, false) }))
  default     = {}
  nullable    = false
}

variable "name" {
  description = "Name of the service, by which others find it."
  type        = string
  nullable    = false
}

variable "networks" {
  description = "Network -> id of the networks to join."
  type        = map(string)
  nullable    = false
}

variable "once" {
  description = "Whether it has done its work when it ends: it is started again only if it failed, and nobody waits for it."
  type        = bool
  default     = false
  nullable    = false
}

variable "order" {
  description = "What an update does first: stop-first, or start-first where two at once do no harm."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["stop-first", "start-first"], var.order)
    error_message = "order is stop-first or start-first."
  }
}

variable "placement" {
  description = "Swarm placement constraints; a service with a volume has to stay on one node."
  type        = list(string)
  nullable    = false

  validation {
    condition = length(var.placement) > 0 && alltrue([
      for rule in var.placement : can(regex("^(node|engine)\\.[a-z.]+(==|!=)[^ ]+$", rule))
    ])
    error_message = "placement is one or more constraints such as node.role==manager or node.id==<id>."
  }
}

variable "ports" {
  description = "Ports to publish on every address of the node: any name -> port in the container and of the node."
  type        = map(object({ inner = number, outer = number }))
  default     = {}
  nullable    = false
}

variable "running" {
  description = "Whether it runs; false keeps the service and runs no container."
  type        = bool
  nullable    = false
}

variable "secrets" {
  description = "Docker secrets to mount: file name under /run/secrets -> id and name. Values never come here."
  type        = map(object({ id = string, name = string }))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for secret in var.secrets : can(regex("^[a-z0-9]{25}$", secret.id))])
    error_message = "A secret's id is the 25 characters that Docker gave it; its value must not come here."
  }
}

variable "stop_grace_period" {
  description = "How long the process may take to end before it is killed."
  type        = string
  default     = "30s"
  nullable    = false
}

variable "tmpfs_mb" {
  description = "Path in the container -> megabytes of memory that may be written there."
  type        = map(number)
  default     = { "/tmp" = 64 }
  nullable    = false
}

variable "user" {
  description = "Numbers of the user and group it runs as, to whom its secrets belong, and of its further groups."
  type = object({
    uid    = optional(number, 10001)
    gid    = optional(number, 10001)
    groups = optional(list(string))
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.user.uid >= 1 && var.user.gid >= 1
    error_message = "user.uid and user.gid are those of a user that is not root."
  }
}
