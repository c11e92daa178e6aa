"""Django's PostgreSQL backend, with connections that belong to one tenant each."""

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base

from . import TenantError, current_tenant


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that was made for another tenant than the current one is closed, never used."""

    tenant = None

    def get_connection_params(self):
        if "pool" in self.settings_dict["OPTIONS"]:
            raise ImproperlyConfigured("Django keeps one pool for all tenants: set CONN_MAX_AGE instead of OPTIONS['pool']")
        parameters = super().get_connection_params()
        self.tenant = current_tenant()
        return {**parameters, "user": f"{parameters['user']}.{self.tenant}"}

    # Every cursor that Django opens comes through here.
    def ensure_connection(self):
        if self.connection is not None and self.tenant != current_tenant():
            if self.in_atomic_block:
                raise TenantError(f"this transaction is {self.tenant}'s, and the tenant is now {current_tenant()}")
            self.close()
        super().ensure_connection()
