"""What a person says of a model for its card: texts of model.yaml that a run carries as tags."""

MOST_CARD_CHARS = 1000
# The keys of the section `card`, and the tags of a run that training writes them to.
CARD_TAGS = {key: f"slipway.card.{key}" for key in ("intended_use", "limitations", "owner", "contact", "ethics")}
