"""Webhooks: an application in any language is asked and told by HTTP."""
