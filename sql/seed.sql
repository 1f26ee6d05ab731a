-- The built-in data of the MiniPOS app, for the default restaurant, so that a fresh relay and a fresh browser agree.
-- Touches only a restaurant whose lists are not marked complete, and what is there already stays.

\set ON_ERROR_STOP on
begin isolation level read committed;
set local client_encoding = 'UTF8';
set local search_path = '';

do $$
begin
  -- Two at once: the second waits here and then finds everything in place.
  perform 1 from pos.restaurants as r where r.slug = 'default' for no key update;
end
$$;

insert into pos.tables (restaurant_id, id, number, seats, status)
select r.restaurant_id, t.number::text, t.number, t.seats, 'available'
from pos.restaurants as r,
     unnest(array[2, 4, 6, 4, 2, 6, 2, 4]) with ordinality as t (seats, number)
where r.slug = 'default' and not r.complete
  and not exists (
    select from pos.tables as x
    where x.restaurant_id = r.restaurant_id and (x.number = t.number or x.id = t.number::text))
  and not pos.is_deleted(r.restaurant_id, 'tables', t.number::text)
order by t.number;

insert into pos.categories (restaurant_id, name)
select r.restaurant_id, c.name
from pos.restaurants as r,
     unnest(array['Appetizers', 'Main Menu', 'Pasta', 'Pizza', 'Dessert', 'Beverage']) with ordinality as c (name, place)
where r.slug = 'default' and not r.complete and not pos.is_deleted(r.restaurant_id, 'categories', c.name)
order by c.place
on conflict do nothing;

insert into pos.menu_items (restaurant_id, id, name, price, category, description)
select r.restaurant_id, m.id, m.name, m.price, m.category, m.description
from pos.restaurants as r,
     (values
       ('1', 'မုန့်ဟင်းခါး / Mohinga', 2500, 'Appetizers', 'Traditional fish noodle soup / ရိုးရာငါးမုန့်ဟင်းခါး'),
       ('2', 'ဆမူဆာသုပ် / Samosa Thoke', 2000, 'Appetizers', 'Samosa salad with chickpeas / ကုလားပဲနှင့်ဆမူဆာသုပ်'),
       ('3', 'ရှမ်းခေါက်ဆွဲ / Shan Noodles', 3500, 'Main Menu', 'Traditional Shan style noodles / ရိုးရာရှမ်းခေါက်ဆွဲ'),
       ('4', 'လပက်သုပ် / Tea Leaf Salad', 2800, 'Appetizers', 'Traditional Myanmar tea leaf salad / ရိုးရာမြန်မာလပက်သုပ်'),
       ('5', 'အုန်းထမင်း / Coconut Rice', 1500, 'Main Menu', 'Fragrant coconut rice with curry / ဟင်းနှင့်အုန်းထမင်း'),
       ('6', 'မြန်မာဘီယာ / Myanmar Beer', 1200, 'Beverage', 'Local Myanmar beer / ပြည်တွင်းဘီယာ')
     ) as m (id, name, price, category, description)
where r.slug = 'default' and not r.complete and not pos.is_deleted(r.restaurant_id, 'menu_items', m.id)
order by m.id
on conflict do nothing;

insert into pos.staff (restaurant_id, id, data, password)
select r.restaurant_id, s.id,
       jsonb_build_object('name', s.name, 'username', s.username, 'email', s.username || '@restaurant.com', 'roleId', s.username, 'isActive', true),
       s.username
from pos.restaurants as r,
     (values ('1', 'Admin User', 'admin'), ('2', 'Cashier User', 'cashier'), ('3', 'Waiter User', 'waiter')) as s (id, name, username)
where r.slug = 'default' and not r.complete and not pos.is_deleted(r.restaurant_id, 'staff', s.id)
order by s.id
on conflict do nothing;

update pos.restaurants as r
set complete = true,
    settings = jsonb_build_object(
      'id', 1, 'restaurantName', 'MiniPOS', 'description', 'Professional Point of Sale System', 'currency', 'MMK',
      'taxRate', 5, 'serviceCharge', 0, 'serviceChargeEnabled', false, 'theme', 'light', 'language', 'en',
      'sessionTimeout', 60) || r.settings
where r.slug = 'default' and not r.complete;

commit;
