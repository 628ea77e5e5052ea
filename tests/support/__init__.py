"""Helpers of the integration tests."""

SECRET_DETAIL = "the password of the database is swordfish"
