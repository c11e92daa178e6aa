"""Orders and their lines, protected."""

import django.db.models.deletion
import shop.models
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Order',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tenant_id', models.TextField(db_default=shop.models.CurrentTenant(), editable=False)),
                ('customer', models.TextField()),
            ],
            options={
                'db_table': 'orders',
                'indexes': [models.Index(fields=['tenant_id', 'id'], name='orders_tenant')],
            },
        ),
        migrations.CreateModel(
            name='Line',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('tenant_id', models.TextField(db_default=shop.models.CurrentTenant(), editable=False)),
                ('item', models.TextField()),
                ('quantity', models.IntegerField()),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='lines', to='shop.order')),
            ],
            options={
                'db_table': 'lines',
                'indexes': [models.Index(fields=['tenant_id', 'order'], name='lines_tenant')],
                'constraints': [models.CheckConstraint(condition=models.Q(('quantity__gt', 0)), name='lines_quantity')],
            },
        ),
        # In the migration that creates the tables, so that they are never there unprotected.
        migrations.RunSQL(
            [
                "SELECT pgvpd_protect('orders'), pgvpd_protect('lines')",
                "GRANT SELECT, INSERT, UPDATE, DELETE ON orders, lines TO app_user",
            ],
            migrations.RunSQL.noop,
        ),
    ]
