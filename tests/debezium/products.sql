-- A table of products as a shop has it, and what happens to it. record.sh runs the first part before the connectors
-- start, so that it comes as a snapshot, and the second part after that. The first item's details are so
-- long that PostgreSQL stores them apart, and leaves them out of updates.
CREATE TABLE products (
  id integer PRIMARY KEY,
  name text NOT NULL,
  department text,
  maker text,
  price numeric(10, 2),
  list_price numeric,
  stock integer NOT NULL,
  details text,
  updated timestamptz NOT NULL DEFAULT now()
);
INSERT INTO products VALUES
  (101, 'Hand-blown glass hurricane lamp', 'lighting', 'Nordlicht', 49.90, 59.95, 12,
    (SELECT string_agg(md5(n::text), ' ') FROM generate_series(1, 90) AS n)),
  (102, 'Tarnished brass lantern', 'lighting', 'Nordlicht', 35.00, 35, 3, NULL),
  (103, 'Grüner Übertopf, glasiert', 'garden', 'Töpferei Süd', 12.34, NULL, 40, 'für Pflanzen bis 15 cm'),
  (104, 'Folding canvas camp chair', 'outdoor', NULL, 79.00, 80.5, 7, NULL),
  (105, 'Discontinued enamel coffee pot', 'kitchen', 'Emaille & Co', NULL, NULL, 1, NULL),
  (106, 'Cedar wood shoe rack', 'hallway', 'Emaille & Co', 10.24, 12, 5, NULL);
-- changes
INSERT INTO products VALUES (107, 'Waxed cotton rain hat', 'clothing', 'Regenzeit', 1000.00, 1000, 25, 'Five colours');
UPDATE products SET price = 44.90, updated = now() WHERE id = 101;
UPDATE products SET stock = 0, updated = now() WHERE id = 102;
UPDATE products SET name = 'Blauer Übertopf, glasiert', details = NULL, updated = now() WHERE id = 103;
UPDATE products SET id = 204 WHERE id = 104;
DELETE FROM products WHERE id = 105;
BEGIN;
DELETE FROM products WHERE id = 106;
INSERT INTO products VALUES (106, 'Oiled oak shoe rack', 'hallway', 'Emaille & Co', 0.05, 0.1, 2, NULL);
COMMIT;
INSERT INTO products VALUES (108, 'Short-lived desk toy', 'office', NULL, 3.50, 'NaN', 1, NULL);
DELETE FROM products WHERE id = 108;
