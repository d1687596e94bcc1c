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

variable "hostname" {
  description = "Name or address by which engines reach the registry; with tls the name in the certificate."
  type        = string
  default     = "127.0.0.1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", var.hostname))
    error_message = "hostname is a name or an IPv4 address, without a scheme or port."
  }
}

variable "image" {
  description = "Image of the image registry, by id or digest."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([^@[:space:]]+@)?sha256:[0-9a-f]{64}$", var.image))
    error_message = "image is sha256:<64 hex digits> or name@sha256:<64 hex digits>; a tag can be moved."
  }
}

variable "limits" {
  description = "The most CPU and memory that the image registry may use."
  type = object({
    cpus      = optional(number, 0.5)
    memory_mb = optional(number, 256)
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

variable "networks" {
  description = "Network -> id of the networks to join."
  type        = map(string)
  nullable    = false

  validation {
    condition     = toset(keys(var.networks)) == toset(["images", "publish-images"])
    error_message = "networks has exactly images and publish-images."
  }
}

variable "placement" {
  description = "Swarm placement constraints; a service with a volume has to stay on one node."
  type        = list(string)
  default     = ["node.role==manager"]
  nullable    = false
}

variable "port" {
  description = "Port to listen on and to publish."
  type        = number
  default     = 5001
  nullable    = false

  validation {
    condition     = var.port >= 1024 && var.port <= 65534 && floor(var.port) == var.port
    error_message = "port is a whole number from 1024 to 65534; with tls the container listens on it and on the next one."
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
  description = "Docker secrets: certificate chain and key in PEM, and who may push and pull, as htpasswd. Null without TLS."
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
