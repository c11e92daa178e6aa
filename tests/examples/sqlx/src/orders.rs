//! Orders. No statement here names a tenant.

use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::tenants::TenantPool;

/// An order as it is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct NewOrder {
    customer: String,
    lines: Vec<NewLine>,
}

#[derive(Debug, Deserialize)]
struct NewLine {
    item: String,
    quantity: i32,
}

/// An order as it is shown.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub(crate) struct Order {
    id: i64,
    customer: String,
    items: i64,
}

pub(crate) async fn list(TenantPool(pool): TenantPool) -> Result<Json<Vec<Order>>, StatusCode> {
    let orders = sqlx::query_as(
        "SELECT o.id, o.customer, coalesce(sum(l.quantity), 0) AS items
         FROM orders o LEFT JOIN lines l ON l.order_id = o.id GROUP BY o.id ORDER BY o.id",
    );
    Ok(Json(orders.fetch_all(&pool).await.map_err(failed)?))
}

/// The order and its lines, or nothing.
pub(crate) async fn create(
    TenantPool(pool): TenantPool,
    Json(order): Json<NewOrder>,
) -> Result<(StatusCode, Json<i64>), StatusCode> {
    let mut transaction = pool.begin().await.map_err(failed)?;
    let id: i64 = sqlx::query_scalar("INSERT INTO orders (customer) VALUES ($1) RETURNING id")
        .bind(&order.customer)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    for line in &order.lines {
        // An error drops the transaction, which rolls it back.
        sqlx::query("INSERT INTO lines (order_id, item, quantity) VALUES ($1, $2, $3)")
            .bind(id)
            .bind(&line.item)
            .bind(line.quantity)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(id)))
}

fn failed(error: sqlx::Error) -> StatusCode {
    match error.as_database_error() {
        Some(error) if error.is_check_violation() => StatusCode::UNPROCESSABLE_ENTITY,
        // The proxy and PostgreSQL both say 28000 where a tenant may not log in.
        Some(error) if error.code().is_some_and(|code| code == "28000") => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
