-- UPDATE_MENU: dishes and categories.

create or replace function pos.mutate_menu(
  p_restaurant_id bigint, p_client_id text, p_mutation_id text, p_action text, p_body jsonb, p_if_version bigint
) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_id text := p_body ->> 'id';
  v_action text := p_action;
  v_current pos.menu_items;
  v_exists boolean;
  v_missing text;
  v_version bigint;
begin
  if p_action = 'delete_category_apart' then
    v_id := p_body ->> 'name';
    if not exists (select from pos.categories as c where c.restaurant_id = p_restaurant_id and c.name = v_id) then
      perform pos.delete_unknown(p_restaurant_id, 'UPDATE_MENU', 'delete_category', 'categories', v_id);
    end if;
    return pos.mutate_category(p_restaurant_id, 'delete_category', v_id, p_if_version);
  end if;
  if p_action in ('add_category', 'delete_category') then
    return pos.mutate_category(p_restaurant_id, p_action, p_body ->> 'name', p_if_version);
  end if;
  if coalesce(p_action, '') not in ('add_item', 'add_item_apart', 'update_item', 'delete_item', 'delete_item_apart') then
    return pos.unknown_action('UPDATE_MENU', p_action);
  end if;
  select m.* into v_current from pos.menu_items as m where m.restaurant_id = p_restaurant_id and m.id = v_id for update;
  v_exists := found;
  if p_action like '%_apart' then
    v_action := regexp_replace(p_action, '_apart$', '');
    if v_action = 'add_item' and v_exists and v_current.created_by <> p_client_id then
      v_id := pos.id_apart(p_restaurant_id, 'menu_items', v_id);
      v_exists := false;
      v_current := null;
    end if;
  end if;
  if v_action = 'delete_item' and not v_exists then
    if p_action = 'delete_item_apart' then
      perform pos.delete_unknown(p_restaurant_id, 'UPDATE_MENU', v_action, 'menu_items', v_id);
    end if;
    return pos.done(p_restaurant_id, null);
  end if;
  if not v_exists and v_action <> 'add_item' and pos.is_deleted(p_restaurant_id, 'menu_items', v_id) then
    return pos.refused('GONE', format('dish %s was deleted; add it to make it again', v_id), 'id');
  end if;
  if p_if_version <> coalesce(v_current.version, 0) then
    return pos.conflict(format('dish %s has version %s', v_id, coalesce(v_current.version, 0)), 'ifVersion', pos.row_of(v_current));
  end if;
  if v_action = 'delete_item' then
    delete from pos.menu_items as m where m.restaurant_id = p_restaurant_id and m.id = v_id;
    return pos.done(p_restaurant_id, v_current.version + 1);
  end if;

  v_missing := pos.missing_field(p_body, array['name', 'price', 'category', 'description']);
  if not v_exists and v_missing is not null then
    return pos.refused('VALIDATION', format('%s is required to make a dish', v_missing), v_missing);
  end if;
  v_current.name := coalesce(p_body ->> 'name', v_current.name);
  v_current.price := coalesce((p_body ->> 'price')::numeric, v_current.price);
  v_current.category := coalesce(p_body ->> 'category', v_current.category);
  v_current.description := coalesce(p_body ->> 'description', v_current.description);
  v_current.image := p_body ->> 'image';
  v_current.extra := pos.extra_of(p_body, array['id', 'name', 'price', 'category', 'description', 'image'], array['image']);
  if v_exists then
    update pos.menu_items as m
    set (name, price, category, description, image, extra)
      = row(v_current.name, v_current.price, v_current.category, v_current.description, v_current.image, v_current.extra)
    where m.restaurant_id = p_restaurant_id and m.id = v_id
    returning m.version into v_version;
    return pos.done(p_restaurant_id, coalesce(v_version, v_current.version));
  end if;
  insert into pos.menu_items (restaurant_id, id, name, price, category, description, image, extra)
  values (p_restaurant_id, v_id, v_current.name, v_current.price, v_current.category, v_current.description,
          v_current.image, v_current.extra)
  returning version into v_version;
  return pos.done(p_restaurant_id, v_version);
end
$$;
comment on function pos.mutate_menu(bigint, text, text, text, jsonb, bigint) is 'UPDATE_MENU. add_item_apart is an add of the web app: an id that another terminal made is another dish''s.';

create or replace function pos.mutate_category(p_restaurant_id bigint, p_action text, p_name text, p_if_version bigint) returns pos.result
language plpgsql set search_path = '' as $$
declare
  v_version bigint;
begin
  select c.version into v_version from pos.categories as c where c.restaurant_id = p_restaurant_id and c.name = p_name for update;
  if p_if_version <> coalesce(v_version, 0) and not (p_action = 'delete_category' and v_version is null) then
    return pos.conflict(format('category %s has version %s', p_name, coalesce(v_version, 0)), 'ifVersion',
                        case when v_version is not null then jsonb_build_object('name', p_name, 'version', v_version) end);
  end if;
  if p_action = 'delete_category' then
    delete from pos.categories as c where c.restaurant_id = p_restaurant_id and c.name = p_name;
    return pos.done(p_restaurant_id, v_version + 1);
  end if;
  if v_version is null then
    insert into pos.categories (restaurant_id, name) values (p_restaurant_id, p_name) returning version into v_version;
  end if;
  return pos.done(p_restaurant_id, v_version);
end
$$;
comment on function pos.mutate_category(bigint, text, text, bigint) is 'UPDATE_MENU add_category and delete_category.';
