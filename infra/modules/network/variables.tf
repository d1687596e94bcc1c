variable "encrypted" {
  description = "Whether what goes from node to node is encrypted, and anything else refused; needs ESP in every node's kernel."
  type        = bool
  default     = true
  nullable    = false
}

variable "environments" {
  description = "Names of the environments; each gets a network of its own and one for load runs."
  type        = set(string)
  nullable    = false

  validation {
    condition     = alltrue([for name in var.environments : can(regex("^[a-z]{1,16}$", name))])
    error_message = "An environment's name is 1 to 16 lower-case letters."
  }
}

variable "external" {
  description = "Which services are somebody else's, outside of these networks."
  type = object({
    image_registry = optional(bool, false)
    object_store   = optional(bool, false)
  })
  default  = {}
  nullable = false
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
