"""Orders and their lines. Nothing here knows of tenants but the column's default, which the database fills in."""

from django.db import models
from django.db.models import CheckConstraint, Func, Index, Q


class CurrentTenant(Func):
    """SQL's current_tenant_id()."""

    function = "current_tenant_id"
    output_field = models.TextField()


class TenantModel(models.Model):
    """What belongs to a tenant."""

    tenant_id = models.TextField(db_default=CurrentTenant(), editable=False)

    class Meta:
        abstract = True


class Order(TenantModel):
    customer = models.TextField()

    class Meta:
        db_table = "orders"
        indexes = [Index(fields=["tenant_id", "id"], name="orders_tenant")]


class Line(TenantModel):
    order = models.ForeignKey(Order, models.PROTECT, related_name="lines")
    item = models.TextField()
    quantity = models.IntegerField()

    class Meta:
        db_table = "lines"
        indexes = [Index(fields=["tenant_id", "order"], name="lines_tenant")]
        constraints = [CheckConstraint(condition=Q(quantity__gt=0), name="lines_quantity")]
