"""Django's PostgreSQL backend, with connections that belong to one tenant each."""

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base

from . import TenantError, as_tenant, current_tenant


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that was made for another tenant than the current one is closed, never used."""

    tenant = None

    def get_connection_params(self):
        if "pool" in self.settings_dict["OPTIONS"]:
            raise ImproperlyConfigured("Django keeps one pool for all tenants: set CONN_MAX_AGE instead of OPTIONS['pool']")
        parameters = super().get_connection_params()
        return {**parameters, "user": f"{parameters['user']}.{current_tenant()}"}

    # Not where the parameters are made: others ask for those, too, while this connection is another tenant's.
    def get_new_connection(self, conn_params):
        connection = super().get_new_connection(conn_params)
        self.tenant = current_tenant()
        return connection

    # Every cursor that Django opens comes through here.
    def ensure_connection(self):
        if self.connection is not None and self.tenant != current_tenant():
            if not self.autocommit:  # as `atomic` leaves it, too
                raise TenantError(f"this transaction is {self.tenant}'s, and the tenant is now {current_tenant()}")
            self.close()
        super().ensure_connection()

    # Django looks after a kept connection between requests, where there is no tenant.
    def close_if_unusable_or_obsolete(self):
        if self.connection is not None:
            with as_tenant(self.tenant):
                super().close_if_unusable_or_obsolete()
