"""Settings: the whole form goes at every save, and the app drops its socket when the page closes."""

from __future__ import annotations

from tests.waiting import until
from tests.webapp.acts import line
from tests.webapp.restaurant import PHOTO, Restaurant


async def test_name_tax_and_currency_are_the_same_everywhere(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    mya.change_settings(restaurantName="ရွှေဘဲ / Golden Duck", taxRate=7.5, currency="USD", serviceCharge=10)
    await restaurant.agree()
    assert khin.settings["restaurantName"] == "ရွှေဘဲ / Golden Duck"
    assert khin.settings["taxRate"] == 7.5
    khin.save_order(khin.table(1), line(khin.menu[0], 2))
    await restaurant.agree()
    assert mya.table(1)["orderTotal"] == 5375


async def test_theme_language_and_switches_are_the_same_everywhere(restaurant: Restaurant) -> None:
    mya, hla, khin = restaurant.browsers
    mya.change_settings(theme="dark", language="mm", serviceChargeEnabled=True)
    await restaurant.agree()
    hla.change_settings(sessionTimeout=5, serviceChargeEnabled=False)
    await restaurant.agree()
    assert (khin.settings["theme"], khin.settings["serviceChargeEnabled"]) == ("dark", False)


async def test_a_logo_reaches_every_window(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    mya.change_settings(logo=PHOTO, openingHours={"mon": ["10:00", None]})
    await restaurant.agree()
    late = await restaurant.open()
    await restaurant.agree()
    assert khin.settings["logo"] == late.settings["logo"] == PHOTO


async def test_crossing_saves_of_the_settings_leave_all_with_the_same(restaurant: Restaurant) -> None:
    """Each sends its whole form, so the second one takes the first one's tax back: but everywhere."""
    mya, hla, khin = restaurant.browsers
    mya.change_settings(taxRate=7)
    hla.change_settings(restaurantName="Golden Duck")
    await restaurant.agree()
    assert khin.settings["taxRate"] == 7 or khin.settings["restaurantName"] == "Golden Duck"


async def test_leaving_the_settings_page_loses_nothing(restaurant: Restaurant) -> None:
    """The app drops its socket for a second when Settings closes."""
    mya, hla, khin = restaurant.browsers
    mya.change_settings(taxRate=7)
    mya.close_settings()
    hla.add_table(9)
    hla.change_dish(hla.menu[0], price=1)
    await restaurant.agree()
    assert (mya.table(9)["number"], mya.menu[0]["price"]) == (9, 1)
    assert khin.settings["taxRate"] == 7


async def test_what_is_done_in_the_second_after_settings_arrives(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    mya.close_settings()
    mya.add_table(9)
    mya.add_dish("Duck", 9000, "Main Menu", image=PHOTO)
    table = mya.save_order(mya.table(9), line(mya.menu[0]))
    await restaurant.agree()
    assert khin.table(9)["orderItems"] == table["orderItems"]
    assert khin.dish("Duck")["image"] == PHOTO


async def test_leaving_the_settings_page_again_and_again(restaurant: Restaurant) -> None:
    mya, _, khin = restaurant.browsers
    for rate in (6, 7, 8):
        mya.change_settings(taxRate=rate)
        mya.close_settings()
        await until(lambda: mya.connected)
    await restaurant.agree()
    assert khin.settings["taxRate"] == 8


async def test_an_edit_of_the_settings_sends_no_lists(restaurant: Restaurant) -> None:
    mya, hla, _ = restaurant.browsers
    before = [hla.syncs(key) for key in ("tables", "menuItems", "orderHistory")]
    mya.change_settings(taxRate=7)
    await restaurant.agree()
    assert [hla.syncs(key) for key in ("tables", "menuItems", "orderHistory")] == before
