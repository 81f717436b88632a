"""The studio's addresses."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.templatetags.static import static
from django.urls import path
from django.views.generic import RedirectView

from studio import views

urlpatterns = [
    path("", views.cast, name="cast"),
    path("characters/<int:pk>", views.character, name="character"),
    path("works/<int:pk>/card", views.card, name="card"),
    path("works/<int:pk>/files/<int:number>", views.file, name="file"),
    path("works/<int:pk>/retry", views.retry, name="retry"),
    path("favicon.ico", login_not_required(RedirectView.as_view(url=static("studio/icon.svg")))),
    path("sign-in", LoginView.as_view(), name="login"),
    path("sign-up", views.sign_up, name="sign-up"),
    path("sign-out", LogoutView.as_view(), name="logout"),
]
