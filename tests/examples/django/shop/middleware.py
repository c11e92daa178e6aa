"""Which tenant a request is for."""

import re

from django.db import OperationalError
from django.http import HttpResponse, HttpResponseForbidden, HttpResponseNotFound

from .tenancy import TenantError, as_tenant


class TenantMiddleware:
    """Takes the first label of `acme.shop.example`, if it is one that a tenant may have: a host name comes from the client."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        tenant, dot, _ = request.get_host().partition(".")
        if not dot or not re.fullmatch(r"[a-z0-9-]{1,63}", tenant):
            return HttpResponseNotFound()
        with as_tenant(tenant):
            return self.get_response(request)

    def process_exception(self, request, error):
        if not isinstance(error, OperationalError) or isinstance(error, TenantError):
            return None
        # libpq gives no SQLSTATE of a login that failed, but the text. A server that is down is no refusal.
        refused = re.search(r'FATAL:  pgvpd: tenant ".*" is not ', str(error))
        return HttpResponseForbidden() if refused else HttpResponse(status=503)
