"""Orders. No query names a tenant."""

import json

from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.db.models.functions import Coalesce
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt

from .models import Line, Order


@csrf_exempt
def orders(request):
    """GET lists them, POST adds one."""
    if request.method == "GET":
        found = Order.objects.annotate(items=Coalesce(Sum("lines__quantity"), 0)).order_by("id")
        return JsonResponse(list(found.values("customer", "items")), safe=False)
    new = json.loads(request.body)
    try:
        # The order and its lines, or nothing.
        with transaction.atomic():
            order = Order.objects.create(customer=new["customer"])
            Line.objects.bulk_create(Line(order=order, **line) for line in new["lines"])
    except IntegrityError:
        return JsonResponse({"detail": "not a valid order"}, status=422)
    return JsonResponse({"id": order.id}, status=201)
