-- CreateTable
CREATE TABLE "orders" (
    "id" SERIAL NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT current_tenant_id(),
    "customer" TEXT NOT NULL,

    CONSTRAINT "orders_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "lines" (
    "id" SERIAL NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT current_tenant_id(),
    "order_id" INTEGER NOT NULL,
    "item" TEXT NOT NULL,
    "quantity" INTEGER NOT NULL,

    CONSTRAINT "lines_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE INDEX "orders_tenant_id_id_idx" ON "orders"("tenant_id", "id");

-- CreateIndex
CREATE INDEX "lines_tenant_id_order_id_idx" ON "lines"("tenant_id", "order_id");

-- AddForeignKey
ALTER TABLE "lines" ADD CONSTRAINT "lines_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "orders"("id") ON DELETE RESTRICT ON UPDATE CASCADE;


-- The lines below are not Prisma's.
ALTER TABLE "lines" ADD CONSTRAINT "lines_quantity_check" CHECK ("quantity" > 0);
SELECT pgvpd_protect('orders'), pgvpd_protect('lines');
GRANT SELECT, INSERT, UPDATE, DELETE ON "orders", "lines" TO app_user;
GRANT USAGE ON SEQUENCE "orders_id_seq", "lines_id_seq" TO app_user;
