"""Settings; where the proxy is comes from the environment."""

import os

PROXY = {
    "NAME": os.environ["SHOP_DATABASE"],
    "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"],
}
DATABASES = {
    # Logs in as app_user.<tenant>, by the tenant that is current.
    "default": {
        "ENGINE": "shop.tenancy",
        "USER": "app_user",
        "PASSWORD": os.environ["SHOP_PASSWORD"],
        "CONN_MAX_AGE": 60,
        **PROXY,
    },
    # For migrations: a user of `superuser_bypass`, which the proxy lets through without a tenant.
    "administrator": {
        "ENGINE": "django.db.backends.postgresql",
        "USER": "postgres",
        "PASSWORD": os.environ.get("SHOP_ADMINISTRATOR_PASSWORD", ""),
        **PROXY,
    },
}
INSTALLED_APPS = ["shop"]
MIDDLEWARE = ["shop.middleware.TenantMiddleware"]
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = [".shop.example"]
SECRET_KEY = os.environ["SHOP_SECRET_KEY"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
